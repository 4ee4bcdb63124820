/** Whatever is exported, called with nothing or with what is none of it: an error of this package, and at once. */
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import * as flashmargin from '../lib/index.js';

type Call = (...args: unknown[]) => unknown;

/** By name; what is exported twice under its first. */
function functionsOf(module: object, prefix = '', seen = new Set<unknown>()): [string, Call][] {
  return Object.entries(module).flatMap(([name, value]): [string, Call][] => {
    if (seen.has(value)) return [];
    seen.add(value);
    if (typeof value === 'function') return [[prefix + name, value as Call]];
    const isModule = Object.prototype.toString.call(value) === '[object Module]';
    return isModule ? functionsOf(value, `${prefix}${name}.`, seen) : [];
  });
}

/** iresnetSmall is the same function; these would only take long to fill with their initial weights. */
const large = ['nn.iresnet18', 'nn.iresnet34', 'nn.iresnet50', 'nn.iresnet100'];
const all = functionsOf(flashmargin).filter(([name]) => !large.includes(name));

const started = process.cwd();
const folder = mkdtempSync(path.join(tmpdir(), 'flashmargin-exports-'));
beforeAll(() => process.chdir(folder)); // where files would be that should not be written
afterAll(() => {
  process.chdir(started);
  rmSync(folder, { recursive: true });
});

it('finds what is exported', () => {
  const names = all.map(([name]) => name);
  expect(names).toEqual(
    expect.arrayContaining(['train', 'MarginHead', 'ops.softmax', 'io.readCheckpoint', 'optim.Sgd']),
  );
  expect(names.length).toBeGreaterThan(150);
});

it.each(all)(
  '%s refuses what it cannot take',
  async (_, f) => {
    const isClass = /^class\b/.test(Function.prototype.toString.call(f));
    for (const args of [[], [{}], [null], [{}, {}, {}], [7, 7, 7], [[]], [[1], [1], [1]], [[null], {}], [() => 3]]) {
      try {
        const result = isClass ? Reflect.construct(f, args) : f(...args);
        await result;
      } catch (error) {
        expect(error).toBeInstanceOf(flashmargin.FlashmarginError);
      }
    }
    expect(readdirSync(folder)).toEqual([]);
  },
  5000,
);
