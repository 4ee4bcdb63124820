// Writes docs/conformance.md: every golden case with our errors in float64 and float32 beside what its source loses in
// float32.  Given a file, takes what `flashmargin conformance test/golden --json` wrote there.  With --check: fails where the cases are not those of test/golden (numbers differ from machine to machine).
// Needs the built package (npm run build).
import { readFileSync, writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const file = path.join(root, 'docs/conformance.md');
const golden = path.join(root, 'test/golden');
const { goldenCaseNames, conformance } = await import(path.join(root, 'dist/index.mjs'));

/** The case of a row of the page. */
const named = (text) => [...text.matchAll(/^\| `([^`]+)` \|/gm)].map((match) => match[1]);

function page(rows) {
  const families = [...new Set(rows.map(({ family }) => family))];
  const cases = new Set(rows.map(({ name }) => name)).size;
  const failed = rows.filter(({ passed }) => !passed);
  const verdict =
    failed.length === 0
      ? 'All pass.'
      : `Not passed: ${failed.map(({ name, precision }) => `${name} in ${precision}`).join(', ')}.`;
  return `# Conformance

Numbers that published code produced for ${new Set(rows.map(({ name }) => name.replace(/, step \d+$/, ''))).size} files of
inputs, against this package: ${rows.length} comparisons of ${cases} cases. ${verdict}

A cell is the largest error in float64 / in float32, and in brackets what the source's own float32 run loses against its
float64 run. Of logits and states it is absolute or relative as the name says: \`abs\`, \`rel\`. \`dX_rel\` is the largest
‖x‖·|ΔdX| of a row over the largest ‖x‖·|dX|, \`dW_rel\` the largest |ΔdW| over the largest |dW|.

What passes: in float64 1e-9 of a logit and 1e-7 of a gradient, up to 1e-5 where 1/sin θ makes it large; in float32 twice
what the source loses, or 2e-5 of a logit and 5e-6 of a gradient where that is more. \`flashmargin conformance
test/golden\` runs them all, \`node scripts/conformance-table.mjs\` writes this page. [margins.md](margins.md) says which
options each source stands for. These numbers: ${cpus()[0].model.trim()}, Node ${process.versions.node}.

${families.map((family) => section(family, rows)).join('\n')}`;
}

const exponent = (value) => (value === 0 ? '0' : value.toExponential(0).replace('e+0', ''));

function cell(exact, single) {
  if (!exact && !single) return '';
  const theirs = single?.source === undefined ? '' : ` (${exponent(single.source)})`;
  return [exact, single].flatMap((of) => (of ? [exponent(of.error)] : [])).join(' / ') + theirs;
}

function section(family, rows) {
  const sources = [...new Set(rows.filter((row) => row.family === family).map(({ source }) => source))];
  return sources.map((source, i) => `${i === 0 ? `## ${family}\n\n` : ''}${of(rows, family, source)}`).join('\n');
}

function of(rows, family, source) {
  const own = rows.filter((row) => row.family === family && row.source === source);
  const names = [...new Set(own.map(({ name }) => name))];
  const quantities = [...new Set(own.flatMap(({ measurements }) => Object.keys(measurements)))];
  const at = (name, precision) => own.find((row) => row.name === name && row.precision === precision)?.measurements;
  const lines = names.map((name) => {
    const [exact, single] = [at(name, 'float64'), at(name, 'float32')];
    return [`\`${name}\``, ...quantities.map((key) => cell(exact?.[key], single?.[key]))];
  });
  const header = ['case', ...quantities.map((key) => key.replaceAll('_', ' '))];
  const table = [header, header.map(() => '---'), ...lines].map((cells) => `| ${cells.join(' | ')} |`).join('\n');
  return `${source}\n\n${table}\n`;
}

if (process.argv.includes('--check')) {
  const [there, wanted] = [new Set(named(readFileSync(file, 'utf8'))), new Set(goldenCaseNames(golden))];
  const missing = [...wanted].filter((name) => !there.has(name));
  const surplus = [...there].filter((name) => !wanted.has(name));
  for (const name of missing) console.error(`docs/conformance.md: no row of ${name}`);
  for (const name of surplus) console.error(`docs/conformance.md: ${name} is not in test/golden`);
  if (missing.length + surplus.length > 0) {
    console.error('run node scripts/conformance-table.mjs');
    process.exit(1);
  }
} else {
  const given = process.argv[2];
  const { rows, skipped, broken } = given ? JSON.parse(readFileSync(given, 'utf8')) : conformance(golden);
  if (skipped.length + broken.length > 0) throw new Error(JSON.stringify({ skipped, broken }));
  writeFileSync(file, page(rows));
}
