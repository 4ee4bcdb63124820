// Everything that must hold before a commit, one step after the other; ends with a line of counts.
//   node scripts/check.mjs                     all steps
//   node scripts/check.mjs lint types          some of them
//   node scripts/check.mjs --tests-ran=FILE    all but the tests, counted from vitest's JSON report of an earlier run
//   node scripts/check.mjs --native-ran=LOG    the native step as another run of this wrote it, once LOG is there
//   node scripts/check.mjs --cuda-built=FOLDER the CUDA gates of a build that is there (see cuda-gates.mjs)
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const scratch = mkdtempSync(path.join(tmpdir(), 'flashmargin-check-'));
const counts = { passed: 0, failed: 0, skipped: 0 };

/** True when the command succeeded; its output goes to ours, or into `log` when one is given. */
function run(command, args, log) {
  const stdio = log ? ['ignore', 'pipe', 'inherit'] : 'inherit';
  const { status, stdout, error } = spawnSync(command, args, {
    cwd: root,
    stdio,
    encoding: 'utf8',
    maxBuffer: 1 << 28,
  });
  if (error) console.error(`${command}: ${error.message}`);
  log?.push(stdout ?? '');
  return status === 0;
}
const npm = (script, ...args) => run('npm', ['run', '--silent', script, ...(args.length ? ['--', ...args] : [])]);

const option = (name) => process.argv.find((arg) => arg.startsWith(`--${name}=`))?.slice(name.length + 3);

/** What a run of the native step alone wrote. */
function countNative(log) {
  const stop = Date.now() + 3_600_000;
  while (!existsSync(log)) {
    if (Date.now() > stop) {
      console.error(`native: ${log} did not come within an hour`);
      counts.failed++;
      return false;
    }
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 500);
  }
  const lines = readFileSync(log, 'utf8').trimEnd().split('\n');
  const [, passed, failed, skipped] = /^(\d+) passed, (\d+) failed, (\d+) skipped$/.exec(lines.at(-1)) ?? [0, 0, 1, 0];
  console.log(lines.join('\n').replace(/\n\d+ passed, .*$/, '')); // the last line is for the sum of all steps
  counts.passed += Number(passed);
  counts.failed += Number(failed);
  counts.skipped += Number(skipped);
  return lines.some((line) => line.startsWith('ok     native '));
}

/** Each test program ends with "N passed, N failed", and ", N skipped" where it may skip. */
function nativeTests() {
  const ran = option('native-ran');
  if (ran) return countNative(ran);
  const build = path.join(root, 'build-asan');
  const avx512 = process.arch !== 'x64' || /\bavx512f\b/.test(readFileSync('/proc/cpuinfo', 'utf8'));
  if (!avx512) console.log('native: without AVX-512, which this processor lacks');
  const off = ['-DFM_CUDA=off', '-DFM_ONEDNN=off', `-DFM_AVX512=${avx512 ? 'ON' : 'OFF'}`];
  const configured = ['-S', root, '-B', build, '-DFM_SANITIZE=ON', '-DFM_TESTS=ON', ...off];
  if (!run('cmake', configured, []) || !run('cmake', ['--build', build, '-j', String(availableParallelism())], []))
    return false;
  const log = [];
  const at = ['--parallel', String(availableParallelism()), '--timeout', '1200'];
  const ok = run('ctest', ['--test-dir', build, '--verbose', ...at], log);
  let failed = 0;
  for (const [, pass, fail, skip] of log[0].matchAll(/^\d+: (\d+) passed, (\d+) failed(?:, (\d+) skipped)?/gm)) {
    counts.passed += Number(pass);
    failed += Number(fail);
    counts.skipped += Number(skip ?? 0);
  }
  counts.failed += ok ? failed : Math.max(failed, 1); // a crash prints no line
  if (!ok) console.error(log[0]);
  return ok && /100% tests passed/.test(log[0]);
}

function countVitest(file) {
  if (!existsSync(file)) {
    counts.failed++;
    return false;
  }
  const report = JSON.parse(readFileSync(file, 'utf8'));
  counts.passed += report.numPassedTests;
  counts.failed += report.numFailedTests;
  counts.skipped += report.numPendingTests + report.numTodoTests;
  // a file that fails to load has no tests to count
  if (!report.success && report.numFailedTests === 0) counts.failed += Math.max(1, report.numFailedTestSuites);
  return report.success && report.numPassedTests > 0;
}

const ran = option('tests-ran');
function tests() {
  if (ran) return countVitest(ran);
  const report = path.join(scratch, 'vitest.json');
  const ok = run('npm', ['test', '--', '--reporter=default', '--reporter=json', `--outputFile.json=${report}`]);
  return countVitest(report) && ok;
}

function cudaGates() {
  const built = option('cuda-built');
  return run(process.execPath, [path.join(root, 'scripts/cuda-gates.mjs'), ...(built ? [`--built=${built}`] : [])]);
}

// The cheap steps first; and last what another run may still be at.
const steps = {
  lint: () => npm('lint'),
  layers: () => npm('layers'),
  types: () => npm('types'),
  tables: () => run(process.execPath, [path.join(root, 'scripts/readme-tables.mjs'), '--check']),
  cuda: cudaGates,
  // what test/bench/gpu.test.ts goes through without a GPU
  programs: () => run('bash', [path.join(root, 'bench/gpu/pack.sh'), '--dry-programs']),
  tests,
  native: nativeTests,
};

const chosen = process.argv.slice(2).filter((arg) => !arg.startsWith('--'));
const unknown = chosen.filter((name) => !(name in steps));
if (unknown.length) {
  console.error(`check: no step '${unknown.join("', '")}'; the steps are ${Object.keys(steps).join(', ')}`);
  process.exit(2);
}

const broken = [];
for (const [name, step] of Object.entries(steps)) {
  if (chosen.length && !chosen.includes(name)) continue;
  const started = Date.now();
  const ok = step();
  if (!ok) broken.push(name);
  console.log(`${ok ? 'ok    ' : 'FAILED'} ${name} (${((Date.now() - started) / 1000).toFixed(0)} s)`);
}
rmSync(scratch, { recursive: true, force: true });
if (broken.length) console.error(`check: failed in ${broken.join(', ')}`);
console.log(`${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} skipped`);
process.exitCode = broken.length ? 1 : 0;
