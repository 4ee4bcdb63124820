import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { conformance } from '../../lib/train/index.js';

const golden = fileURLToPath(new URL('../golden/', import.meta.url));

const read = (name: string): Buffer => readFileSync(path.join(golden, `${name}.safetensors`));

/** A file with another metadata entry; numbers stay. */
function withMetadata(file: Buffer, entries: Record<string, string>): Buffer {
  const length = Number(file.readBigUInt64LE(0));
  const header = JSON.parse(file.toString('utf8', 8, 8 + length));
  Object.assign(header.__metadata__, entries);
  const text = Buffer.from(JSON.stringify(header));
  const start = Buffer.alloc(8);
  start.writeBigUInt64LE(BigInt(text.length));
  return Buffer.concat([start, text, file.subarray(8 + length)]);
}

/** Writes files into a folder of their own, and runs them. */
function run(files: Record<string, Buffer>) {
  const own = mkdtempSync(path.join(tmpdir(), 'flashmargin-golden-'));
  try {
    for (const [name, bytes] of Object.entries(files)) writeFileSync(path.join(own, `${name}.safetensors`), bytes);
    return conformance(own);
  } finally {
    rmSync(own, { recursive: true, force: true });
  }
}

const small = 'arcface.insightface.small';

describe('a folder of golden files', () => {
  it('names files that are not for this package, and why, without failing', () => {
    const { rows, skipped, broken } = run({
      [small]: read(small),
      'arcface.someone_else.small': read(small),
      'tripletloss.someone.small': read(small),
      'combined.insightface_torch.three': withMetadata(read('combined.insightface_torch.filter_arc'), {
        hp: JSON.stringify({ s: 64, m1: 1.2, m2: 0.5, m3: 0 }),
      }),
    });
    expect(rows.map(({ name, passed }) => [name, passed])).toEqual([
      [small, true],
      [small, true],
    ]);
    expect(skipped.map(({ file, reason }) => [file.split('.')[0], reason])).toEqual([
      ['arcface', 'the conventions of someone_else for arcface are not known'],
      ['combined', 'its source refuses m1 1.2, m2 0.5, m3 0'],
      ['tripletloss', 'no family here is called tripletloss'],
    ]);
    expect(broken).toEqual([]);
  });

  it('names damaged files, and runs the others', () => {
    const { rows, broken } = run({
      'arcface.insightface.cut': read(small).subarray(0, 4000),
      'arcface.insightface.empty': Buffer.alloc(0),
      'arcface.insightface.hp': withMetadata(read(small), { hp: '{"s": 64}' }),
      'arcface.insightface.json': withMetadata(read(small), { hp: '{"s": 64' }),
      [small]: read(small),
    });
    expect(rows).toHaveLength(2);
    expect(broken.map(({ file }) => file.split('.')[2])).toEqual(['cut', 'empty', 'hp', 'json']);
    expect(broken.map(({ reason }) => reason)).toEqual([
      expect.stringMatching(/expected data up to byte \d+, got a file of 4000/),
      expect.stringMatching(/expected a safetensors header, got 0 bytes/),
      expect.stringMatching(/expected hp\.m, a number, got undefined/),
      expect.stringMatching(/expected JSON in the metadata hp/),
    ]);
  });

  // Numbers of one hyper-parameter do not pass for those of another: each case reads its own.
  it.each([
    ['arcface.insightface.small', { s: 64, m: 0.45 }],
    ['arcface.pml.hard', { s: 64, m: 28 }],
    ['cosface.insightface.small', { s: 60, m: 0.4 }],
    ['combined.insightface_mxnet.small_all', { s: 64, m1: 0.95, m2: 0.4, m3: 0.15 }],
    ['combined.insightface_torch.filter_cos', { s: 64, m1: 1, m2: 0, m3: 0.4, filter: 0.1 }],
    ['sphereface.opensphere.small_m3', { s: 30, m: 2.9 }],
    ['sphereface.clcarwin.steps', { m: 4, it0: 5 }],
    ['sphereface.svx.steps', { s: 32, m: 2, iter0: 50 }],
    ['adam_softmax.facexzoo.small', { s: 30, lamda: 60 }],
    ['mv.svx.mvam.small_full', { fc_type: 'MV-AM', s: 32, m: 0.35, t: 0.3, easy_margin: false }],
    ['mv.svx.mvam.hard_easy', { fc_type: 'MV-AM', s: 32, m: 0.35, t: 0.2, easy_margin: false }],
    ['mv.facexzoo.mvarc.small', { is_am: false, s: 32, m: 0.5, mv_weight: 1.2 }],
    ['curricularface.official.hard_steps', { s: 64, m: 0.5, t0: 0.2 }],
    [
      'magface.official.medium',
      { s: 64, l_a: 12, u_a: 110, l_margin: 0.45, u_margin: 0.8, lambda_g: 20, easy_margin: true },
    ],
    ['elasticface.official.arc_plus.small', { kind: 'arc', s: 64, m: 0.5, std: 0.0175, plus: false }],
    ['adaface.official.small_steps', { s: 64, m: 0.4, h: 0.333, t_alpha: 0.02 }],
    ['subcenter.pml.small', { s: 64, m: 30 }],
    ['partialfc.ws4.cos_sampled', { kind: 'cos', s: 64, m: 0.4, sample_rate: 0.6, world: 4 }],
    ['trajectory.arcface_true_gradient', { s: 30, m: 0.3, lr: 0.05, momentum: 0.8, weight_decay: 5e-4 }],
  ])('reads the hyper-parameters of %s', (name, hp) => {
    const { rows, broken } = run({ [name]: withMetadata(read(name), { hp: JSON.stringify(hp) }) });
    expect(rows.some(({ passed }) => !passed) || broken.length > 0).toBe(true);
    expect(run({ [name]: read(name) }).rows.every(({ passed }) => passed)).toBe(true);
  });
});
