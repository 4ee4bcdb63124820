/** GroupFace and the losses on pairs, from a configuration to a resumed run. */
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { beforeAll, describe, expect, it } from 'vitest';
import { openDataset, RecordWriter } from '../../lib/data/index.js';
import { ConfigError } from '../../lib/errors.js';
import { listCheckpoints, readCheckpoint } from '../../lib/io/index.js';
import {
  type ConfigInput,
  evaluate,
  loadBackbone,
  readMetrics,
  resolveConfig,
  type StepMetrics,
  train,
} from '../../lib/train/index.js';
import { scratchFolder, tinyConfig, writeTinySet } from './tinySet.js';

const folder = scratchFolder();
beforeAll(() => writeTinySet(path.join(folder, 'tiny.rec')));

// Networks this small are faster on one thread, and much so beside other work.
const tiny = (out: string) => ({ ...tinyConfig(folder, out), threads: 1 });
const data = { ...tinyConfig(folder).data, sampler: { classes: 4, images: 2 } };
const variants: Record<string, Partial<ConfigInput>> = {
  groupFace: { groupFace: { groups: 3, embeddingSize: 12, hidden: 16 } },
  'groupFace with a running expectation': {
    groupFace: { groups: 3, mode: 'hard', activation: 'prelu', expectation: 'running' },
  },
  triplet: { data, margin: {}, loss: { kind: 'triplet', mining: 'all' } },
  'semi-hard triplets': { data, margin: {}, loss: { kind: 'triplet' } },
  contrastive: { data, margin: {}, loss: { kind: 'contrastive', average: 'separate' } },
  centerLoss: { centerLoss: { weight: 0.05 } },
};
/** What a checkpoint holds beside the parts of every run. */
const states: Record<string, readonly string[]> = {
  groupFace: ['backbone.groupFace.groups.weight', 'optimizer.groupFace.groups.weight'],
  'groupFace with a running expectation': ['backbone.groupFace.expectation', 'backbone.groupFace.groupsPrelu.weight'],
  triplet: ['head.draws'],
  'semi-hard triplets': ['head.draws'],
  contrastive: ['head.draws'],
  centerLoss: ['centerLoss.centers', 'head.weight'],
};

function weights(out: string): Map<string, string> {
  const { tensors } = readCheckpoint(listCheckpoints(out)[0] as string);
  return new Map(
    [...tensors].map(([name, { data }]) => [
      name,
      Buffer.from(data.buffer, data.byteOffset, data.byteLength).toString('base64'),
    ]),
  );
}

describe.each(Object.keys(variants))('%s', (name) => {
  const slug = name.replaceAll(' ', '-');

  it('learns, and goes on bit for bit after a stop', async () => {
    const whole = await train({ ...tiny(`${slug}-whole`), ...variants[name] });
    const metrics = readMetrics(whole.out);
    const [first, last] = [metrics[0], metrics.at(-1)] as [StepMetrics, StepMetrics];
    // The mean over semi-hard triplets stays inside the margin, however good the network is.
    if (name.startsWith('semi-hard')) expect(last.accuracy).toBeGreaterThan(first.accuracy);
    else expect(last.loss).toBeLessThan(0.9 * first.loss);
    expect([...weights(whole.out).keys()]).toEqual(expect.arrayContaining([...(states[name] as string[])]));

    const controller = new AbortController();
    const config = { ...tiny(`${slug}-stop`), ...variants[name], log: { everySteps: 1 } };
    const stopping = train(config, {
      signal: controller.signal,
      onMetrics: ({ step }) => step === 17 && controller.abort(new Error('enough')),
    });
    await expect(stopping).rejects.toThrow('enough');
    const resumed = await train(config, { resume: true });
    expect(resumed.steps).toBe(whole.steps);
    expect(weights(resumed.out)).toEqual(weights(whole.out));
    await expect(train({ ...config, seed: 8 }, { resume: true })).rejects.toThrow(/different at seed/);
  });

  it('has a backbone that loads and tells the classes apart', async () => {
    const { backbone } = loadBackbone({ run: path.join(folder, `${slug}-whole`) }, [16, 16, 1]);
    const { tiers } = await evaluate(backbone, { test: path.join(folder, 'tiny.rec') });
    expect(tiers[0]?.pairs.auc).toBeGreaterThan(0.85);
  });
});

describe('configuration', () => {
  const base = { data: { train: 'x.rec' } };
  const pairs = { train: 'x.rec', sampler: { classes: 32, images: 4 } };

  it('fills in the published defaults', () => {
    expect(resolveConfig({ ...base, groupFace: {} }).groupFace).toMatchObject({
      groups: 4,
      hidden: 256,
      lossWeight: 0.1,
    });
    expect(resolveConfig({ ...base, centerLoss: {} }).centerLoss).toEqual({ weight: 0.003, alpha: 0.5 });
    const { loss } = resolveConfig({ data: pairs, loss: { kind: 'triplet' } });
    expect(loss).toEqual({ kind: 'triplet', margin: 0.3, mining: 'semi-hard', average: 'triplets' });
    expect(resolveConfig(base).loss).toBeUndefined();
  });

  it.each([
    [
      { ...base, loss: { kind: 'triplet' } },
      /data\.sampler: expected at least 2 images a class, got nothing: triplet compares/,
    ],
    [
      { data: { ...pairs, sampler: { classes: 128, images: 1 } }, loss: { kind: 'contrastive' } },
      /data\.sampler: expected at least 2 images/,
    ],
    [{ data: pairs, batchSize: 100 }, /batchSize: expected 32 × 4, as data\.sampler says, got 100/],
    [{ data: pairs, loss: { kind: 'triplet' }, centerLoss: {} }, /centerLoss: expected none beside loss\.kind triplet/],
    [
      { data: pairs, loss: { kind: 'quadruplet' } },
      /loss\.kind: expected one of triplet, contrastive, got 'quadruplet'/,
    ],
    [{ data: pairs, loss: { kind: 'triplet', margn: 1 } }, /loss\.margn: unknown key/],
    [{ ...base, groupFace: { group: 4 } }, /groupFace\.group: unknown key; did you mean 'groups'/],
    [{ ...base, groupFace: { groups: 0 } }, /groupFace\.groups/],
  ])('refuses what does not fit: %#', (input, message) => {
    expect(() => resolveConfig(input)).toThrow(ConfigError);
    expect(() => resolveConfig(input)).toThrow(message);
  });
});

describe('on Kanji-28', () => {
  const rec = path.join(folder, 'kanji.rec');
  /** The images of 40 characters. */
  beforeAll(() => {
    const kanji = openDataset(fileURLToPath(new URL('../../data/kanji28/test.rec', import.meta.url)));
    const writer = new RecordWriter(rec);
    for (let i = 0; i < kanji.size; i++) if (kanji.label(i) < 40) writer.add(kanji.label(i), kanji.encoded(i));
    writer.finish();
    kanji.close();
  });

  it.each([
    ['triplet', { margin: {}, loss: { kind: 'triplet', mining: 'all' } }],
    ['contrastive', { margin: {}, loss: { kind: 'contrastive', average: 'separate' } }],
    ['groupFace', { groupFace: { groups: 4, hidden: 32 } }],
    ['centerLoss', { centerLoss: {} }],
  ] satisfies [string, Partial<ConfigInput>][])('%s lowers its loss', async (name, rest) => {
    const { out } = await train({
      out: path.join(folder, `kanji-${name}`),
      data: { train: rec, workers: 0, sampler: { classes: 16, images: 4 } },
      backbone: { name: 'iresnetSmall', stemWidth: 8, widths: [16, 32], embeddingSize: 64 },
      margin: { method: 'softmax', scale: 16 },
      optimizer: { lr: 0.05 },
      schedule: { name: 'constant' },
      epochs: 1,
      batchSize: 64,
      threads: 1,
      log: { everySteps: 5 },
      ...rest,
    });
    const losses = readMetrics(out).map(({ loss }) => loss);
    expect(losses.at(-1)).toBeLessThan(0.8 * (losses[0] as number));
  });
});
