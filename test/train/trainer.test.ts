import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { openDataset } from '../../lib/data/index.js';
import { ArgumentRangeError, FlashmarginError, NonFiniteError } from '../../lib/errors.js';
import { MarginHead } from '../../lib/heads/index.js';
import { listCheckpoints, lockFolder, readCheckpoint, readSafetensors } from '../../lib/io/index.js';
import { iresnetSmall, Module } from '../../lib/nn/index.js';
import * as ops from '../../lib/ops/index.js';
import { Sgd } from '../../lib/optim/index.js';
import { normalArray, Random } from '../../lib/random.js';
import { parameter, type Tensor, tensor, zeros } from '../../lib/tensor.js';
import {
  evaluate,
  inspectRun,
  loadBackbone,
  loadConfig,
  readMetrics,
  type StepMetrics,
  Trainer,
  train,
} from '../../lib/train/index.js';
import { trainStep } from '../../lib/train/step.js';
import { scratchFolder, tinyConfig, writeTinySet } from './tinySet.js';

const folder = scratchFolder();
beforeAll(() => writeTinySet(path.join(folder, 'tiny.rec')));

/** Everything in the newest checkpoint, as bytes. */
function weights(out: string): Map<string, string> {
  const { tensors } = readCheckpoint(listCheckpoints(out)[0] as string);
  return new Map(
    [...tensors].map(([name, { data }]) => [
      name,
      Buffer.from(data.buffer, data.byteOffset, data.byteLength).toString('base64'),
    ]),
  );
}

/** Of a Trainer that writes nothing. */
function parts() {
  const backbone = iresnetSmall({ imageSize: 16, channels: 1, embeddingSize: 16, stemWidth: 8, widths: [8, 8] });
  return {
    backbone,
    head: new MarginHead({ numClasses: 12, embeddingSize: 16, onAdvice: () => {} }),
    optimizer: new Sgd(backbone.namedParameters()),
    schedule: () => 0.01,
    dataset: openDataset(path.join(folder, 'tiny.rec')),
    batchSize: 8,
    epochs: 1,
    workers: 0,
  };
}

async function trained(out: string, overrides: object = {}) {
  const run = await train({ ...tinyConfig(folder, out), ...overrides });
  return { run, weights: weights(run.out), metrics: readMetrics(run.out) };
}

describe('training', () => {
  it('learns, logs every few steps, and keeps the newest checkpoints', async () => {
    const { run, metrics } = await trained('learns');
    expect(run.steps).toBe(45);
    expect(metrics.map(({ step }) => step)).toEqual([5, 10, 15, 20, 25, 30, 35, 40, 45]);
    expect(metrics.at(-1)?.loss).toBeLessThan(0.6 * (metrics[0]?.loss as number));
    for (const m of metrics) {
      expect(m.headShare).toBeGreaterThan(0);
      expect(m.headShare + m.dataShare).toBeLessThan(1);
      expect(m.imagesPerSecond).toBeGreaterThan(0);
    }
    expect(metrics[0]?.lr).toBeCloseTo(0.05, 10);
    const { state } = readCheckpoint(listCheckpoints(run.out)[1] as string);
    expect(state).toEqual({
      step: 40,
      epoch: 2,
      batch: 10,
      config: run.config,
      optimizer: 'sgd',
      seconds: expect.any(Number),
      headSeconds: expect.any(Number),
      sums: expect.objectContaining({ steps: 0 }),
    });
    expect(listCheckpoints(run.out).map((file) => path.basename(file))).toEqual([
      'step-00000045.safetensors',
      'step-00000040.safetensors',
    ]);
    expect(readdirSync(path.join(run.out, 'checkpoints')).filter((name) => name.includes('tmp'))).toEqual([]);
    const { tiers } = await evaluate(run.backbone, { test: path.join(folder, 'tiny.rec') });
    expect(tiers[0]?.pairs.auc).toBeGreaterThan(0.9);
    const { backbone, step } = loadBackbone({ run: run.out }, [16, 16, 1]);
    expect(step).toBe(45);
    const again = await evaluate(backbone, { test: path.join(folder, 'tiny.rec') });
    expect(again.tiers).toEqual(tiers);
  });

  it('refuses options that are not what they should be', async () => {
    const config = tinyConfig(folder, 'refused');
    await expect(train(config, { resume: 'yes' as never })).rejects.toThrow(/^train: expected resume true or false/);
    await expect(train(config, { overwrite: 1 as never })).rejects.toThrow(/^train: expected overwrite true or false/);
    await expect(inspectRun(undefined as never)).rejects.toThrow(
      /^inspectRun: expected the folder of a run, got undef/,
    );
    await expect(loadConfig(undefined as never)).rejects.toThrow(/^loadConfig: expected the path of a configuration/);
    expect(existsSync(config.out as string)).toBe(false);
  });

  it('gives the same numbers for the same seed and others for another', async () => {
    const [a, b, c] = [await trained('a'), await trained('b', { threads: 1 }), await trained('c', { seed: 8 })];
    expect(b.weights).toEqual(a.weights);
    expect(c.weights).not.toEqual(a.weights);
  });

  it.each([10, 17, 30])('goes on bit for bit after a stop at step %i', async (stop) => {
    const whole = await trained(`whole-${stop}`);
    const controller = new AbortController();
    const config = { ...tinyConfig(folder, `stop-${stop}`), log: { everySteps: 1 } };
    const stopping = train(config, {
      signal: controller.signal,
      onMetrics: ({ step }) => {
        if (step === stop) controller.abort(new Error('enough'));
      },
    });
    await expect(stopping).rejects.toThrow('enough');
    const left = listCheckpoints(config.out as string);
    expect(readCheckpoint(left[0] as string).state.step).toBe(stop);
    expect(left.length).toBeLessThanOrEqual(2); // what is kept by default
    const killed = path.join(config.out as string, 'checkpoints/step-00000099.safetensors.123.tmp');
    const others = ['config.json', 'metrics.jsonl', 'summary.json', 'report.html', 'non-finite-step-3.safetensors'];
    const parts = [killed, ...others.map((name) => path.join(config.out as string, `${name}.123.tmp`))];
    const foreign = path.join(config.out as string, 'notes.123.tmp');
    for (const part of [...parts, foreign]) writeFileSync(part, 'the beginning of one');
    const resumed = await train(config, { resume: true });
    expect(resumed.steps).toBe(45);
    expect([...parts, foreign].filter(existsSync)).toEqual([foreign]);
    expect(weights(resumed.out)).toEqual(whole.weights);
    expect(readMetrics(resumed.out).map(({ step }) => step)).toEqual(Array.from({ length: 45 }, (_, i) => i + 1));
  });

  it('goes on with the means of a line that a stop cut in two', async () => {
    const line = ({ step, loss, accuracy }: StepMetrics) => ({ step, loss, accuracy });
    const whole = await trained('line-whole');
    const controller = new AbortController();
    const config = tinyConfig(folder, 'line-stop');
    const stopping = train(
      { ...config, checkpoint: { everySteps: 13 } },
      {
        signal: controller.signal,
        onMetrics: ({ step }) => step === 15 && controller.abort(new Error('enough')),
      },
    );
    await expect(stopping).rejects.toThrow('enough');
    for (const file of listCheckpoints(config.out as string)) if (!file.endsWith('13.safetensors')) rmSync(file); // as if it had been killed
    const resumed = await train(config, { resume: true });
    expect(readMetrics(resumed.out).map(line)).toEqual(whole.metrics.map(line));
  });

  it('goes on bit for bit with the t of CurricularFace', async () => {
    const margin = { method: 'curricularface', scale: 16, margin: 0.2, tRate: 0.1 };
    const whole = await trained('t-whole', { margin });
    expect(whole.weights.size).toBe(weights(tinyConfig(folder, 'a').out as string).size + 1);
    const controller = new AbortController();
    const config = { ...tinyConfig(folder, 't-stop'), margin, log: { everySteps: 1 } } as never;
    const stopping = train(config, {
      signal: controller.signal,
      onMetrics: ({ step }) => step === 17 && controller.abort(new Error('enough')),
    });
    await expect(stopping).rejects.toThrow('enough');
    const resumed = await train(config, { resume: true });
    expect(weights(resumed.out)).toEqual(whole.weights);
    const t = readCheckpoint(listCheckpoints(resumed.out)[0] as string).tensors.get('head.t');
    expect(t?.dtype).toBe('float64');
    expect(t?.data[0]).toBeGreaterThan(0.01);
  });

  it('goes on bit for bit with AdamW, and refuses what the other optimizer left', async () => {
    const optimizer = { type: 'adamw' as const, lr: 0.01 };
    const whole = await trained('adamw-whole', { optimizer });
    expect(whole.metrics.at(-1)?.loss).toBeLessThan(0.6 * (whole.metrics[0]?.loss as number));
    const controller = new AbortController();
    const config = { ...tinyConfig(folder, 'adamw-stop'), optimizer, log: { everySteps: 1 } };
    const stopping = train(config, {
      signal: controller.signal,
      onMetrics: ({ step }) => step === 17 && controller.abort(new Error('enough')),
    });
    await expect(stopping).rejects.toThrow('enough');
    const { tensors } = readCheckpoint(listCheckpoints(config.out as string)[0] as string);
    for (const name of ['optimizer.steps', 'head.steps']) expect(tensors.get(name)?.data).toEqual(Float64Array.of(17));
    await expect(train({ ...config, optimizer: { lr: 0.01 } }, { resume: true })).rejects.toThrow(
      /step-00000017.* expected a checkpoint of optimizer sgd, got one of adamw\n {2}fix: resume with optimizer\.type adamw/,
    );
    const resumed = await train(config, { resume: true });
    expect(weights(resumed.out)).toEqual(whole.weights);
    await expect(train({ ...tinyConfig(folder, 'learns'), optimizer }, { resume: true })).rejects.toThrow(
      /expected a checkpoint of optimizer adamw, got one of sgd\n {2}fix: resume with optimizer\.type sgd/,
    );
    expect((await inspectRun(resumed.out, { images: 40 })).state).toEqual({ steps: 45 });
    expect(loadBackbone({ run: resumed.out }, [16, 16, 1]).step).toBe(45);
  });

  it("clips the backbone's gradients and not the head's", async () => {
    const optimizer = { lr: 0.05, weightDecay: 0, clipNorm: 1e-9 };
    const { run } = await trained('clips', { optimizer, epochs: 1, checkpoint: { keep: 9 } });
    const [last, first] = listCheckpoints(run.out).map((file) => readCheckpoint(file).tensors);
    const moved = (name: string) => {
      const [a, b] = [last, first].map((tensors) => tensors?.get(name)?.data as Float32Array);
      return Math.max(...(a as Float32Array).map((x, i) => Math.abs(x - (b?.[i] as number))));
    };
    for (const [name] of run.backbone.namedParameters()) expect(moved(`backbone.${name}`), name).toBeLessThan(1e-7);
    expect(moved('head.weight')).toBeGreaterThan(1e-3);
  });

  it.each([
    ['data', (bytes: Buffer) => bytes.length - 100],
    ['a name in the header', (bytes: Buffer) => bytes.indexOf('bn2.weight')],
  ])('passes over a checkpoint with damaged %s, and says so', async (where, place) => {
    const name = `damaged ${where}`;
    const whole = weights(tinyConfig(folder, 'a').out as string);
    const out = tinyConfig(folder, name).out as string;
    const done = tinyConfig(folder, 'a').out as string;
    mkdirSync(path.join(out, 'checkpoints'), { recursive: true });
    for (const file of listCheckpoints(done)) copyFileSync(file, path.join(out, 'checkpoints', path.basename(file)));
    const [newest] = listCheckpoints(out) as [string];
    const bytes = readFileSync(newest);
    bytes.writeUInt8(bytes.readUInt8(place(bytes)) ^ 1, place(bytes));
    writeFileSync(newest, bytes);
    const notes: string[] = [];
    await train(tinyConfig(folder, name), { resume: true, onNote: (note) => notes.push(note) });
    expect(notes.join('\n')).toMatch(/damaged checkpoint: .*step-00000045.*checksum/s);
    expect(notes.join('\n')).toMatch(/resuming from .*step-00000040/);
    expect(weights(out)).toEqual(whole);
    // Evaluation falls back as well, and says so; with nothing whole left there is nothing to go on from.
    truncateSync(listCheckpoints(out)[0] as string, 1000);
    const heard: unknown[] = [];
    expect(loadBackbone({ run: out }, [16, 16, 1], (error) => heard.push(error)).step).toBe(40);
    expect(heard).toHaveLength(1);
    truncateSync(listCheckpoints(out)[1] as string, 1000);
    const none =
      /expected a whole checkpoint, got 2, of which none is whole\n {2}fix: copy a whole one there, or .*--overwrite/;
    writeFileSync(path.join(out, 'config.json'), JSON.stringify(tinyConfig(folder, name)));
    expect(() => loadBackbone({ run: out }, [16, 16, 1])).toThrow(none);
    await expect(inspectRun(out)).rejects.toThrow(none);
    await expect(train(tinyConfig(folder, name), { resume: true })).rejects.toThrow(none);
    // With none at all there is nothing to copy.
    for (const file of listCheckpoints(out)) rmSync(file);
    expect(() => loadBackbone({ run: out }, [16, 16, 1])).toThrow(/got none\n {2}fix: train first: .*--resume$/);
  });

  it('does not write over a run, nor resume with another configuration', async () => {
    await expect(train(tinyConfig(folder, 'a'))).rejects.toThrow(/already holds a run[\s\S]*--resume/);
    const other = { ...tinyConfig(folder, 'a'), optimizer: { lr: 0.2 } };
    await expect(train(other, { resume: true })).rejects.toThrow(/another configuration; different at optimizer.lr/);
    expect(existsSync(path.join(folder, 'a', 'config.json'))).toBe(true);
  });

  it('never counts a damaged checkpoint among those that are kept', async () => {
    const config = { ...tinyConfig(folder, 'kept'), checkpoint: { everySteps: 10, keep: 1 } };
    const out = config.out as string;
    const controller = new AbortController();
    const stopped = train(
      { ...config, log: { everySteps: 1 } },
      { signal: controller.signal, onMetrics: ({ step }) => step === 20 && controller.abort(new Error('enough')) },
    );
    await expect(stopped).rejects.toThrow('enough');
    writeFileSync(path.join(out, 'checkpoints', 'step-00009999.safetensors'), 'damaged');
    await train(config, { resume: true });
    expect(readCheckpoint(listCheckpoints(out)[0] as string).state.step).toBe(45);
    expect(readdirSync(path.join(out, 'checkpoints')).sort()).toEqual([
      'step-00000045.safetensors',
      'step-00009999.safetensors.damaged',
    ]);
  });

  it('keeps the old run when the one that would replace it cannot start', async () => {
    const config = tinyConfig(folder, 'a');
    const before = weights(config.out as string);
    mkdirSync(path.join(folder, 'other'));
    writeFileSync(path.join(folder, 'other', 'summary.json'), '{');
    for (const bad of [
      { batchSize: 100_000 },
      { schedule: { warmupSteps: 46 } },
      { data: { ...config.data, shift: 99 } },
      { backbone: { ...config.backbone, widths: [8] } },
      { evaluation: { test: 'nowhere.rec' } },
      { evaluation: { compareWith: [path.join(folder, 'other')] } },
      { evaluation: { test: config.data.train, gallery: 'none' } },
    ]) {
      await expect(train({ ...config, ...bad }, { overwrite: true })).rejects.toThrow(FlashmarginError);
      expect(weights(config.out as string)).toEqual(before);
    }
    await expect(train(config, { overwrite: true, resume: true })).rejects.toThrow(/got both/);
    await expect(train({ ...config, schedule: { warmupSteps: 46 } }, { overwrite: true })).rejects.toThrow(
      /schedule\.warmupSteps: expected at most 45, the steps of 3 epochs, got 46\n {2}fix: lower schedule\.warmupSteps/,
    );
    await expect(train({ ...config, epochs: 1, schedule: { warmupSteps: 46 } }, { overwrite: true })).rejects.toThrow(
      /expected at most 15, the steps of 1 epoch, got 46/,
    );
    await expect(train({ ...config, data: { ...config.data, shift: 99 } }, { overwrite: true })).rejects.toThrow(
      /^data\.shift: expected a whole number of pixels in \[0, \d+\), .*got 99/,
    );
  });

  it('finds what is wrong with evaluation sets before anything is trained or embedded', async () => {
    const set = path.join(folder, 'tsv.rec');
    writeTinySet(set);
    const lines = ['key\ttier', ...Array.from({ length: 120 }, (_, i) => `${i + 1}\tA`)];
    lines[120] = '120'; // the last line lacks its tier
    writeFileSync(path.join(folder, 'tsv.tsv'), lines.join('\n'));
    writeFileSync(path.join(folder, 'bad.bin'), 'no pickle');
    const backbone = iresnetSmall({ embeddingSize: 4, stemWidth: 4, widths: [4, 4], imageSize: 16 });
    const talk: string[] = [];
    const onNote = (note: string) => void talk.push(note);
    for (const [request, message] of [
      [{ test: set }, /^tsv\.tsv: expected a row of 2 columns for key 120, got 1/],
      [{ test: path.join(folder, 'tiny.rec'), pairs: [path.join(folder, 'bad.bin')] }, /^bad\.bin/],
    ] as const) {
      await expect(evaluate(backbone, request, { onNote })).rejects.toThrow(message);
      const config = { ...tinyConfig(folder, 'unevaluated'), evaluation: request as never };
      await expect(train(config, { onNote })).rejects.toThrow(message);
    }
    expect(talk).toEqual([]);
    expect(existsSync(path.join(folder, 'unevaluated'))).toBe(false);
  });

  it('says that config.json is damaged, and takes its removal', async () => {
    const config = tinyConfig(folder, 'b');
    const file = path.join(config.out as string, 'config.json');
    const before = readFileSync(file, 'utf8');
    truncateSync(file, 40);
    const damaged = /config\.json: cannot be read: .*\n {2}fix: remove it: `flashmargin train CONFIG --resume`/;
    await expect(train(config, { resume: true })).rejects.toThrow(damaged);
    await expect(inspectRun(config.out as string)).rejects.toThrow(damaged);
    rmSync(file);
    await train({ ...config, threads: 1 }, { resume: true });
    expect(JSON.parse(readFileSync(file, 'utf8'))).toEqual({ ...JSON.parse(before), threads: 1 });
  });

  it('is alone in its folder', async () => {
    const config = tinyConfig(folder, 'alone');
    const first = train(config);
    await expect(train(config, { resume: true })).rejects.toThrow(/process \d+ is training into this folder/);
    expect(readFileSync(path.join(config.out as string, '.lock'), 'utf8')).toBe(String(process.pid));
    await first;
    const holder = {};
    const release = lockFolder(config.out as string, holder);
    await expect(train(config, { resume: true })).rejects.toThrow(/is training into this folder/);
    await train(config, { resume: true, holder });
    expect(existsSync(path.join(config.out as string, '.lock'))).toBe(true);
    release();
    expect(existsSync(path.join(config.out as string, '.lock'))).toBe(false);
    writeFileSync(path.join(config.out as string, '.lock'), '999999999'); // of a process that has died
    await train(config, { resume: true });
    writeFileSync(path.join(folder, 'file'), '');
    await expect(train({ ...config, out: path.join(folder, 'file') })).rejects.toThrow(/cannot be written to/);
  });

  it('never saves weights that are not finite', async () => {
    const config = { ...tinyConfig(folder, 'infinite'), optimizer: { lr: 1e38 }, batchSize: 120, epochs: 1 };
    const failure = await train({ ...config, schedule: { name: 'constant' as const } }).catch(
      (error: unknown) => error,
    );
    expect(failure).toBeInstanceOf(NonFiniteError);
    expect((failure as Error).message).toMatch(/step 1: .* is not finite; no checkpoint was written/);
    expect(listCheckpoints(config.out as string).map((file) => path.basename(file))).toEqual([
      'step-00000000.safetensors',
    ]);
  });

  it.each<[string, object, RegExp]>([
    ['a backbone that is none', { backbone: {} }, /backbone, such as nn\.iresnetSmall\(\), got \{\}/],
    ['a head that is none', { head: {} }, /head, such as a MarginHead, got \{\}/],
    ['an optimizer that is none', { optimizer: { step() {} } }, /optimizer, such as an optim\.Sgd, got \{/],
    ['a set that is none', { dataset: { size: 8 } }, /dataset, a set from openDataset\(\), got \{size: 8\}/],
    ['no schedule', { schedule: 0.1 }, /schedule, a function of the step, got 0\.1/],
    ['half an epoch', { epochs: 0.5 }, /epochs, an integer of at least 1, got 0\.5/],
    ['a folder that is no path', { out: 7 }, /out, the path of a folder, got 7/],
    ['lines never', { logEverySteps: 0 }, /logEverySteps, an integer of at least 1, got 0/],
    ['no checkpoint to keep', { keepCheckpoints: 0 }, /keepCheckpoints, an integer of at least 1, got 0/],
    ['a signal that is none', { signal: 'stop' }, /signal, an AbortSignal, got 'stop'/],
  ])('refuses %s before it starts', (_, wrong, message) => {
    const make = () => new Trainer({ ...parts(), ...wrong } as never);
    expect(make).toThrow(ArgumentRangeError);
    expect(make).toThrow(new RegExp(`^Trainer: expected ${message.source}`));
  });

  it('leaves no folder behind of a training that its loader refuses', async () => {
    const out = path.join(folder, 'never');
    const failing = new Trainer({ ...parts(), out, workers: -1 }).fit();
    await expect(failing).rejects.toThrow(/^BatchLoader: expected workers in \[0, 64\], got -1/);
    expect(existsSync(out)).toBe(false);
  });

  it('names one remedy where gradients are not finite', async () => {
    /** Finite features, of which √0 has no finite gradient. */
    class Steep extends Module {
      readonly weight = parameter(tensor(normalArray(16 * 256, 0.1, new Random(1)), [16, 256]));
      readonly bias = parameter(zeros([16]));
      readonly embeddingSize = 16;
      override forward(x: Tensor) {
        return ops.linear(ops.flatten(x), this.weight, ops.sqrt(this.bias));
      }
    }
    const backbone = new Steep();
    const optimizer = new Sgd(backbone.namedParameters(), { clipNorm: 1 });
    const failure = await new Trainer({ ...parts(), backbone, optimizer }).fit().catch((error: unknown) => error);
    expect(failure).toBeInstanceOf(NonFiniteError);
    const { message } = failure as Error;
    expect(message).toMatch(/^step 0: Sgd\.step: expected gradients of a finite norm, got (NaN|Infinity); none of its/);
    expect(message.match(/fix:/g)).toHaveLength(1);
    expect(message).toMatch(/fix: lower optimizer\.lr/);
    expect(backbone.bias.toArray()).toEqual(new Float32Array(16));
  });

  it('updates no weight in a step that is not finite', () => {
    const backbone = iresnetSmall({ imageSize: 16, channels: 1, embeddingSize: 16, stemWidth: 8, widths: [8, 8] });
    const head = new MarginHead({ numClasses: 10, embeddingSize: 16, onAdvice: () => {} });
    head.weight.set(new Float32Array(160).fill(Number.NaN, 16, 32));
    const optimizer = new Sgd(backbone.namedParameters());
    const all = () => [...backbone.parameters(), head.weight, head.velocity].map((x) => x.toArray());
    const before = all();
    const batch = { images: new Uint8Array(4 * 256).map((_, i) => i % 251), labels: Int32Array.of(0, 1, 2, 3) };
    expect(() => trainStep({ backbone, head, optimizer }, batch, [16, 16, 1], 0.1)).toThrow(NonFiniteError);
    expect(all()).toEqual(before);
    for (const each of [backbone, head, optimizer]) each.dispose();
  });

  it.each([
    ['margin', {}],
    ['groupFace', { groupFace: { groups: 2, hidden: 8 } }],
  ])('stops at a step that is not finite, with the rows, and saves the batch: %s', async (name, rest) => {
    const config = {
      ...tinyConfig(folder, `explodes-${name}`),
      ...rest,
      optimizer: { lr: 1e30 },
      schedule: { name: 'constant' as const },
    };
    const failure = await train(config).catch((error: unknown) => error);
    expect(failure).toBeInstanceOf(NonFiniteError);
    const { message } = failure as Error;
    expect(message).toMatch(/^step \d+: .*not finite/);
    expect(message).toMatch(/row \d+ \(key \d+, norm (NaN|Infinity)\)|class/);
    expect(message).toMatch(/optimizer\.lr/);
    const file = readdirSync(config.out as string).find((name) => name.startsWith('non-finite')) as string;
    const { tensors } = readSafetensors(path.join(config.out as string, file));
    expect(tensors.get('images')?.shape).toEqual([8, 16, 16, 1]);
    expect(tensors.get('labels')?.data).toHaveLength(8);
    expect(tensors.get('features')?.shape[0]).toBe(8);
    expect(tensors.get('keys')?.data).toHaveLength(8);
    expect(listCheckpoints(config.out as string)).not.toEqual([]);
  });
});
