import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { ConfigError } from '../../lib/errors.js';
import { arcface, combined, cosface, curricularface, mvsoftmax, sphereface } from '../../lib/margins/index.js';
import { loadConfig, resolveConfig } from '../../lib/train/index.js';
import { marginOf } from '../../lib/train/marginConfig.js';
import { scratchFolder } from './tinySet.js';

const folder = scratchFolder();
const data = { train: 'x.rec' };

describe('configuration', () => {
  it("fills in a margin's published defaults", () => {
    for (const [method, preset] of Object.entries({
      arcface,
      combined,
      cosface,
      curricularface,
      mvsoftmax,
      sphereface,
    }))
      expect(marginOf(resolveConfig({ data, margin: { method } }).margin)).toEqual(preset());
    expect(marginOf(resolveConfig({ data, margin: { method: 'sphereface', lambda: 5 } }).margin)).toEqual(
      sphereface({ lambda: 5 }),
    );
  });

  it('fills in defaults', () => {
    const config = resolveConfig({ data });
    expect(config).toMatchObject({
      epochs: 20,
      batchSize: 128,
      margin: { method: 'arcface' },
      schedule: { name: 'poly' },
      device: 'cpu',
    });
    expect(config.optimizer).toEqual({ type: 'sgd', lr: 0.1, momentum: 0.9, weightDecay: 5e-4 });
    expect(resolveConfig(config)).toEqual(config);
    const adamw = resolveConfig({ data, optimizer: { type: 'adamw', headWeightDecay: 0 } });
    const numbers = { lr: 1e-3, betas: [0.9, 0.999], eps: 1e-8, weightDecay: 0.01, headWeightDecay: 0 };
    expect(adamw.optimizer).toEqual({ type: 'adamw', ...numbers });
    expect(resolveConfig(adamw)).toEqual(adamw);
  });

  it.each([
    [{ data, bachSize: 4 }, /bachSize: unknown key; did you mean 'batchSize'\?/],
    [
      { data, optimizer: { learningRate: 1 } },
      /optimizer\.learningRate: unknown key; known here: type, lr, momentum, betas/,
    ],
    [
      { data, optimizer: { betas: [0.9, 0.99] } },
      /optimizer\.betas: expected none beside optimizer\.type sgd, got \[0\.9, 0\.99\]: remove it, or set optimizer\.type to adamw$/,
    ],
    [
      { data, optimizer: { type: 'adamw', momentum: 0.9 } },
      /1 problem\n {2}optimizer\.momentum: expected none beside optimizer\.type adamw, got 0\.9: .* optimizer\.type to sgd$/,
    ],
    [
      { data, optimizer: { type: 'adam' } },
      /optimizer\.type: expected one of sgd, adamw, got 'adam'; did you mean 'adamw'\?$/,
    ],
    [
      { data, optimizer: { type: 'adamw', betas: 0.9 } },
      /optimizer\.betas: expected two numbers in \[0, 1\), such as \[0\.9, 0\.999\], got 0\.9$/,
    ],
    [{ data, optimizer: { type: 'adamw', betas: [0.9, 1] } }, /optimizer\.betas\.1: expected less than 1, got 1$/],
    [{ data, optimizer: { clipNorm: 0 } }, /optimizer\.clipNorm: expected more than 0, got 0$/],
    [{ data, optimizer: { type: 'adamw', eps: 0 } }, /optimizer\.eps: expected at least 1\.18e-38, .*, got 0$/],
    [{ data, margin: { method: 'arcfase' } }, /margin\.method: .*"?arcface/],
    [
      { data, margin: { method: 'cosface', m1: 1.2 } },
      /margin\.m1: not an option of cosface, which has scale, margin, /,
    ],
    [{ data, margin: { method: 'sphereface', overflow: 'hard' } }, /margin\.overflow: not an option of sphereface/],
    [{ data, margin: { t: 0.2 } }, /margin\.t: not an option of arcface/],
    [{ data, margin: { method: 'combined', overflow: 'hard' } }, /margin\.overflow: .*none, easy or clamp/],
    [{ data, margin: { marign: 0.2 } }, /margin\.marign: unknown key; did you mean 'margin'\?/],
    [{ data, epochs: 0 }, /epochs: expected at least 1, got 0$/],
    [{ data, epochs: 1.5 }, /epochs: expected an integer, got 1\.5$/],
    [{ data, epochs: Number.NaN }, /epochs: expected a finite number, got NaN$/],
    [{ data, optimizer: { lr: -1 } }, /optimizer\.lr: expected more than 0, got -1$/],
    [{ data, optimizer: { lr: 1e308 } }, /optimizer\.lr: expected at most 3\.4e38, float32's largest, got 1e\+308$/],
    [{ data, optimizer: { momentum: 1 } }, /optimizer\.momentum: expected less than 1, got 1$/],
    [{ data: { ...data, affine: { std: 1e308 } } }, /data\.affine\.std: expected at most 1, got 1e\+308$/],
    [{ data, margin: { method: 'sphereface2', balance: 1 } }, /margin\.balance: expected less than 1, got 1$/],
    [{ data, optimizer: 3 }, /optimizer: expected an object, got 3$/],
    [
      { data, backbone: { precision: 'bfloat61' } },
      /backbone\.precision: expected one of float32, bfloat16, got 'bfloat61'; did you mean 'bfloat16'\?$/,
    ],
    [{ data, backbone: { widths: [] } }, /backbone\.widths: expected at least 1 values, got \[\]$/],
    [{ data, evaluation: { pairs: 'x.bin' } }, /evaluation\.pairs: expected a list, got 'x\.bin'$/],
    [{ data: { ...data, flip: 'yes' } }, /data\.flip: expected true or false, got 'yes'$/],
    [{ data: { train: 5 } }, /data\.train: expected the path of a \.rec file, got 5$/],
    [{ data: {} }, /data\.train: expected the path of a \.rec file, got nothing$/],
    [{}, /data: expected an object, got nothing$/],
    [{ data, out: '' }, /out: expected the path of a folder, got ''$/],
    [{ data, threads: 257 }, /threads: expected at most 256 threads, or 0 for one a core, got 257$/],
    [{ data: { ...data, workers: 65 } }, /data\.workers: expected at most 64 decoding threads, got 65$/],
    [{ data, device: 'gpu' }, /device: expected 'cpu', 'cuda', 'cuda:<index>' or 'auto', got 'gpu'$/],
    [{ data, head: { memory: 'lea' } }, /head\.memory: expected 'lean', 'fast' or a number of bytes, got 'lea'$/],
    [{ data, margin: { scale: -1 } }, /config: 1 problem\n {2}margin\.scale: expected more than 0, got -1$/],
    [{ data, margin: { margin: 4 } }, /margin\.margin: expected at most π, got 4$/],
    [
      { data, margin: { method: 'sphereface', margin: 20 } },
      /1 problem\n.*margin\.margin: expected at most 10, got 20$/,
    ],
    [
      { data, loss: { kind: 'tripplet' } },
      /loss\.kind: expected one of triplet, contrastive, got 'tripplet'; did you mean 'triplet'\?$/,
    ],
    [{ data, margin: { negatives: {} } }, /margin\.negatives\.rule: expected one of plain, mv, .*, got nothing$/],
    [
      { data, margin: { negatives: { rule: 'filter', abov: 0 } } },
      /margin\.negatives\.abov: unknown key; did you mean 'above'\?$/,
    ],
    [
      { data, margin: { scale: { rule: 'adacos', x: 1 } } },
      /margin\.scale\.x: unknown key; known here: rule, dynamic$/,
    ],
    ['text', /\(top\): expected an object, got 'text'$/],
    [{ data, epochs: 'x', batchSize: 'y' }, /2 problems\n {2}.*\n {2}/],
  ])('%j is an error with its path', (input, message) => {
    expect(() => resolveConfig(input)).toThrow(ConfigError);
    expect(() => resolveConfig(input)).toThrow(message);
  });

  it.each([
    [
      { name: 'step' },
      /expected the epochs at which the rate falls, .* got \[\]: set them, or another schedule\.name$/,
    ],
    [{ name: 'cosine', milestones: [3] }, /expected none beside schedule\.name cosine, got \[3\]: remove them, or /],
    [{ name: 'step', milestones: [3, 1] }, /expected ascending epochs, got \[3, 1\]: /],
    [{ name: 'step', milestones: [3, 3] }, /expected ascending epochs, got \[3, 3\]: /],
    [{ name: 'step', milestones: [3, 5] }, /expected epochs below 5, .* got \[3, 5\]: lower them, or raise epochs$/],
  ] as const)('refuses milestones that would do nothing, or not what was meant: %j', (schedule, message) => {
    const refused = () => resolveConfig({ data, epochs: 5, schedule });
    expect(refused).toThrow(message);
    expect(refused).toThrow(/1 problem\n {2}schedule\.milestones: /);
  });

  it('takes milestones within the run, and asks parts of each other only where each is right', () => {
    const schedule = { name: 'step', milestones: [0.5, 4.5] } as const;
    expect(resolveConfig({ data, epochs: 5, schedule }).schedule).toMatchObject(schedule);
    expect(() => resolveConfig({ data, epochs: -1, schedule })).toThrow(/1 problem\n {2}epochs: /);
  });

  it.each([
    ['a.json', '{"data":{"train":"x.rec"},"epochs":3}'],
    ['a.yaml', 'data: { train: x.rec }\nepochs: 3\n'],
    ['a.ts', "export default { data: { train: 'x.rec' as string }, epochs: 3 };\n"],
  ])('reads %s', async (name, text) => {
    writeFileSync(path.join(folder, name), text);
    expect(await loadConfig(path.join(folder, name))).toEqual(resolveConfig({ data, epochs: 3 }));
  });

  it.each([
    ['b.json', '{"data":', /b\.json cannot be read: .*\n {2}fix: .*ends in \.yaml, /],
    ['b.ts', 'export default {', /b\.ts cannot be read: [\s\S]*fix: /],
    ['b.yaml', 'data: {train: x.rec}\nepocs: 3\n', /b\.yaml: 1 problem\n {2}epocs: unknown key; did you mean 'epochs'/],
  ])('names the file of a bad %s', async (name, text, message) => {
    writeFileSync(path.join(folder, name), text);
    await expect(loadConfig(path.join(folder, name))).rejects.toThrow(message);
  });

  it.each([
    ['a text', 'notes.txt', 'data: { train: x.rec }', /expected a file of a kind that is read, got .*notes\.txt/],
    ['an empty .yaml', 'empty.yaml', '', /expected a configuration in .*empty\.yaml, got nothing/],
    ['a .yaml of comments', 'comments.yaml', '# data', /expected a configuration in .*comments\.yaml, got nothing/],
    ['an empty .json', 'empty.json', '', /expected a configuration in .*empty\.json, got nothing/],
    ['an empty .ts', 'empty.ts', '', /expected a configuration in .*empty\.ts, got nothing/],
  ])('says what is read instead of %s', async (_, name, text, message) => {
    writeFileSync(path.join(folder, name), text);
    await expect(loadConfig(path.join(folder, name))).rejects.toThrow(message);
    await expect(loadConfig(path.join(folder, name))).rejects.toThrow(/fix: .*ends in \.yaml, \.yml, \.json, \.ts/);
  });

  it('says that a file is not there, or is a folder', async () => {
    await expect(loadConfig(folder)).rejects.toThrow(/expected a file, got the folder .*\n {2}fix: name a file/);
    await expect(loadConfig(path.join(folder, 'none.yaml'))).rejects.toThrow(/none\.yaml does not exist/);
  });
});
