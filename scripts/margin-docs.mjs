// Rewrites what docs/margins.md and docs/adding-a-method.md have from the sources, and the pictures of docs/margins/ from
// the kernels.  With --check: fails where a table, a picture's parameters or a method is not as the package has it.
// Needs the built package (npm run build).
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { aboutMethod, aboutOf, methods, plotOf } from './margin-plots.mjs';

const root = fileURLToPath(new URL('..', import.meta.url));
const { margins, optionsOf } = await import(path.join(root, 'dist/index.mjs'));
const check = process.argv.includes('--check');
const problems = [];

const markdown = (header, rows) =>
  [header, header.map(() => '---'), ...rows].map((cells) => `| ${cells.join(' | ')} |`).join('\n');

/** Rules by the function that makes them. */
function written(value) {
  if (typeof value !== 'object') return String(value);
  if (value.rule === 'featureNorm') return '`featureNormScale()`';
  if (value.rule === 'adacos') return '`adacosScale()`';
  return '`annealing()`';
}

const everywhere = Object.keys(margins)
  .map(optionsOf)
  .reduce((a, b) => a.filter((option) => b.includes(option)));

const tables = {
  presets: () =>
    markdown(
      ['preset', 'φ of the target', 'defaults', 'source'],
      Object.entries(margins).map(([name, { params, formula, paper }]) => [
        `[\`${name}()\`](#${name})`,
        formula,
        Object.entries(params)
          .map(([key, value]) => `${key} ${written(value)}`)
          .join(', '),
        paper,
      ]),
    ),
  options: () =>
    `${markdown(
      ['preset', 'its own options', 'and'],
      Object.entries(margins).map(([name, { params }]) => {
        const code = (options) => options.map((option) => `\`${option}\``).join(', ');
        const own = Object.keys(params);
        const rest = optionsOf(name).filter((option) => !own.includes(option) && !everywhere.includes(option));
        return [`\`${name}()\``, code(own.filter((option) => option !== 'scale')), code(rest)];
      }),
    )}\n\nEvery one: ${everywhere.map((option) => `\`${option}\``).join(', ')}.`,
};

const text = (file) => readFileSync(path.join(root, file), 'utf8');
const cut = (file, pattern) => {
  const [found] = text(file).match(pattern) ?? [];
  if (!found) problems.push(`${file}: has no ${pattern}`);
  return (found ?? '').replace(/\n$/, '');
};
const fenced = (language, ...parts) => `\`\`\`${language}\n${parts.join('\n')}\n\`\`\``;

// CosFace's own lines, place by place.
const places = {
  header: ['native/common/margins/cosface.h', /[\s\S]+/],
  def: ['native/common/methods.def', /^METHOD\(cosface.*$/m],
  include: ['native/common/methods.h', /^#include "margins\/cosface\.h"$/m],
  row: ['lib/margins/methods.ts', /^ {2}cosface: \{[\s\S]*?^ {2}\},$/m],
  preset: ['lib/margins/presets.ts', /^\/\*\*[^\n]*\*\/\nexport const cosface = .*$/m],
  exported: ['lib/margins/index.ts', /^ {2}cosface,$/m],
  plain: ['test/golden/formulas.ts', /^\/\*\* cos θ − m[\s\S]*?^\}$/m],
  formula: ['test/golden/formulas.ts', /^const am: [\s\S]*?;$/m],
  named: ['test/golden/formulas.ts', /^ {2}cosface: am,$/m],
};
const linesOf = (...names) => names.map((name) => cut(...places[name]));
const count = (...names) =>
  linesOf(...names)
    .join('\n')
    .split('\n').length;

Object.assign(tables, {
  places: () =>
    markdown(
      ['place', 'lines', 'what'],
      [
        ['`native/common/margins/cosface.h`', count('header'), 'paper, formula, slope'],
        ['`native/common/methods.def`, `methods.h`', count('def', 'include'), 'its name'],
        [
          '`lib/margins/methods.ts`, `presets.ts`, `index.ts`',
          count('row', 'preset', 'exported'),
          'published defaults, and its function',
        ],
        ['`test/golden/formulas.ts`', count('plain', 'formula', 'named'), 'the plain formula'],
      ],
    ),
  header: () => fenced('cpp', ...linesOf('header')),
  names: () => fenced('cpp', ...linesOf('def', 'include')),
  row: () => fenced('js', ...linesOf('row')),
  preset: () => fenced('js', ...linesOf('preset')),
  formula: () => fenced('js', ...linesOf('plain', 'formula'), '…', ...linesOf('named')),
});

/** A page with its generated parts as they are today. */
function current(name) {
  const file = path.join(root, name);
  const before = readFileSync(file, 'utf8');
  const after = before.replace(
    /(<!-- (?:table|code):(\w+) -->\n)[\s\S]*?(<!-- end -->)/g,
    (_, open, part, close) => `${open}${tables[part]()}\n${close}`,
  );
  if (before === after) return after;
  if (check) problems.push(`${name}: a part is not what the sources say`);
  else writeFileSync(file, after);
  return after;
}

const after = current('docs/margins.md');
current('docs/adding-a-method.md');

const folder = path.join(root, 'docs/margins');
mkdirSync(folder, { recursive: true });
for (const name of Object.keys(margins)) {
  if (!methods.includes(name)) problems.push(`scripts/margin-plots.mjs: no curves for ${name}`);
  if (!after.includes(`\n### ${name}\n`)) problems.push(`docs/margins.md: no section ${name}`);
  if (!after.includes(`(margins/${name}.svg)`)) problems.push(`docs/margins.md: no picture of ${name}`);
}
for (const name of methods) {
  const picture = path.join(folder, `${name}.svg`);
  // The last digits of a path may differ from processor to processor; what is drawn may not.
  if (!check) writeFileSync(picture, plotOf(name));
  else if (!existsSync(picture) || aboutOf(readFileSync(picture, 'utf8')) !== aboutMethod(name))
    problems.push(`docs/margins/${name}.svg: is not of today's parameters`);
}
for (const name of readdirSync(folder)) {
  if (!methods.includes(name.replace('.svg', ''))) problems.push(`docs/margins/${name}: is of no method`);
}

for (const problem of problems) console.error(problem);
if (problems.length > 0) {
  console.error('run node scripts/margin-docs.mjs');
  process.exit(1);
}
