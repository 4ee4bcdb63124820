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
    expect(resolveConfig(config)).toEqual(config);
  });

  it.each([
    [{ data, bachSize: 4 }, /bachSize: unknown key; did you mean 'batchSize'\?/],
    [{ data, optimizer: { learningRate: 1 } }, /optimizer\.learningRate: unknown key; known here: lr, momentum/],
    [{ data, margin: { method: 'arcfase' } }, /margin\.method: .*"?arcface/],
    [
      { data, margin: { method: 'cosface', m1: 1.2 } },
      /margin\.m1: not an option of cosface, which has scale, margin, /,
    ],
    [{ data, margin: { method: 'sphereface', overflow: 'hard' } }, /margin\.overflow: not an option of sphereface/],
    [{ data, margin: { t: 0.2 } }, /margin\.t: not an option of arcface/],
    [{ data, margin: { method: 'combined', overflow: 'hard' } }, /margin\.overflow: .*none, easy or clamp/],
    [{ data, margin: { marign: 0.2 } }, /margin\.marign: unknown key; did you mean 'margin'\?/],
    [{ data, epochs: 0 }, /epochs: /],
    [{ data, optimizer: { lr: -1 } }, /optimizer\.lr: /],
    [{ data: { train: 5 } }, /data\.train: .*string/],
    [{}, /data: /],
    [{ data, device: 'gpu' }, /device: expected 'cpu', 'cuda'/],
    ['text', /\(top\): /],
    [{ data, epochs: 'x', batchSize: 'y' }, /2 problems\n {2}.*\n {2}/],
  ])('%j is an error with its path', (input, message) => {
    expect(() => resolveConfig(input)).toThrow(ConfigError);
    expect(() => resolveConfig(input)).toThrow(message);
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
    ['b.json', '{"data":', /b\.json: cannot be read/],
    ['b.yaml', 'data: {train: x.rec}\nepocs: 3\n', /b\.yaml: 1 problem\n {2}epocs: unknown key; did you mean 'epochs'/],
  ])('names the file of a bad %s', async (name, text, message) => {
    writeFileSync(path.join(folder, name), text);
    await expect(loadConfig(path.join(folder, name))).rejects.toThrow(message);
  });

  it('says that a file is not there', async () => {
    await expect(loadConfig(path.join(folder, 'none.yaml'))).rejects.toThrow(/none\.yaml does not exist/);
  });
});
