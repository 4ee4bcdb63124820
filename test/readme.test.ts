/** Every TypeScript example of the README and the docs runs, as it is printed. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import ts from 'typescript';
import { beforeAll, describe, expect, it } from 'vitest';
import { configSchema, resolveConfig } from '../lib/train/index.js';
import { tinyConfig, writeTinySet } from './train/tinySet.js';

const root = fileURLToPath(new URL('..', import.meta.url));
const folder = mkdtempSync(path.join(tmpdir(), 'flashmargin-readme-'));
const pages = [
  'README.md',
  'CONTRIBUTING.md',
  ...readdirSync(path.join(root, 'docs'))
    .filter((name) => name.endsWith('.md'))
    .map((name) => `docs/${name}`),
];
const blocks = pages.flatMap((page) =>
  [...readFileSync(path.join(root, page), 'utf8').matchAll(/```ts\n([\s\S]*?)```/g)].map((match, i) => ({
    page,
    i,
    code: match[1] as string,
  })),
);

beforeAll(() => {
  symlinkSync(path.join(root, 'node_modules'), path.join(folder, 'node_modules'));
  symlinkSync(path.join(root, 'data'), path.join(folder, 'data'));
});

describe('examples', () => {
  it('are there', () => expect(blocks.length).toBeGreaterThanOrEqual(4));

  it.each(blocks.map((block) => [`${block.page} ${block.i}`, block] as const))(
    '%s runs',
    { timeout: 240_000 },
    (_, { code, page }) => {
      const here = mkdtempSync(path.join(folder, 'example-'));
      for (const name of ['data']) symlinkSync(path.join(root, name), path.join(here, name));
      // The package finds itself by its name.
      const modules = path.join(here, 'node_modules');
      spawnSync('mkdir', [modules]);
      symlinkSync(root, path.join(modules, 'flashmargin'));
      // A whole training of the real set is the demo's work: the same lines on fewer images.
      let shown = code;
      if (/train\(/.test(code)) {
        writeTinySet(path.join(here, 'tiny.rec'), { size: 32, classes: 4, perClass: 80 });
        shown = code
          .replaceAll('data/kanji28/train.rec', 'tiny.rec')
          .replaceAll('data/kanji28/test.rec', 'tiny.rec')
          .replace(", gallery: 'noto-sans-jp'", '');
        expect(shown).not.toBe(code);
      }
      if (page.includes('checkpoints')) {
        writeTinySet(path.join(here, 'tiny.rec'));
        const config = { ...tinyConfig(here, 'runs/demo'), epochs: 1 };
        shown = `import { train } from 'flashmargin';\nawait train(${JSON.stringify(config)});\n${shown}`;
      }
      const { outputText } = ts.transpileModule(shown, {
        compilerOptions: { module: ts.ModuleKind.ESNext, target: ts.ScriptTarget.ES2022 },
      });
      writeFileSync(path.join(here, 'example.mjs'), outputText);
      const { status, stderr, stdout } = spawnSync(process.execPath, ['example.mjs'], { cwd: here, encoding: 'utf8' });
      expect(status, stderr).toBe(0);
      expect(stdout).not.toBe('');
    },
  );

  it('type-check', () => {
    const files = blocks.map(({ code }, i) => {
      const file = path.join(folder, `block-${i}.mts`);
      writeFileSync(file, code);
      return file;
    });
    const program = ts.createProgram(files, {
      strict: true,
      noEmit: true,
      skipLibCheck: true,
      module: ts.ModuleKind.NodeNext,
      moduleResolution: ts.ModuleResolutionKind.NodeNext,
      target: ts.ScriptTarget.ES2022,
      types: ['node'],
      typeRoots: [path.join(root, 'node_modules/@types')],
      paths: { flashmargin: [path.join(root, 'dist/index.d.mts')] },
    });
    const messages = ts
      .getPreEmitDiagnostics(program)
      .map(({ messageText, file }) => `${file?.fileName}: ${ts.flattenDiagnosticMessageText(messageText, ' ')}`);
    expect(messages).toEqual([]);
  });
});

describe('docs/configuration.md', () => {
  const page = readFileSync(path.join(root, 'docs/configuration.md'), 'utf8');

  it('names every key', () => {
    const keys = (value: unknown): string[] =>
      value !== null && typeof value === 'object' && !Array.isArray(value)
        ? Object.entries(value).flatMap(([key, inner]) => [key, ...keys(inner)])
        : [];
    const config = resolveConfig({
      data: { train: 'x.rec', affine: { std: 1 } },
      evaluation: { test: 'x', gallery: 'y' },
      groupFace: {},
      centerLoss: {},
    });
    const data = { train: 'x.rec', sampler: { classes: 32, images: 4 } };
    const onPairs = resolveConfig({ data, loss: { kind: 'triplet' } });
    const all = [...new Set([...keys(config), ...keys(onPairs), ...Object.keys(configSchema.shape)])];
    expect(all.filter((key) => !page.includes(key))).toEqual([]);
  });
});
