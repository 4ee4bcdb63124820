// Benchmarks with their environment, appended to bench/results/<date>.jsonl:
//   npm run bench                 head and backbone
//   npm run bench -- head         the fused head against OpenBLAS and a materialising twin   (libopenblas-pthread-dev)
//   npm run bench -- backbone     iresnet18 against torch, where /usr/bin/python3 has it     (python3-torch)
//   npm run bench -- conv         each convolution, own kernels and oneDNN, printed only
//   npm run bench -- demo         copies runs/demo/summary.json (and runs/softmax) into the results
// Then `node scripts/readme-tables.mjs` writes the README's tables.
import { execFileSync, spawnSync } from 'node:child_process';
import { appendFileSync, existsSync, mkdirSync, readFileSync } from 'node:fs';
import { cpus, loadavg, totalmem } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const text = (command, args, env = {}) =>
  execFileSync(command, args, {
    cwd: root,
    encoding: 'utf8',
    env: { ...process.env, ...env },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
const environment = {
  date: new Date().toISOString(),
  commit: text('git', ['rev-parse', '--short', 'HEAD']).trim(),
  cpu: cpus()[0]?.model.trim(),
  cores: cpus().length,
  memoryGiB: Math.round(totalmem() / 2 ** 30),
  node: process.version,
};
const file = path.join(root, 'bench/results', `${environment.date.slice(0, 10)}.jsonl`);
mkdirSync(path.dirname(file), { recursive: true });

function record(line) {
  const full = { ...JSON.parse(line), load: Number(loadavg()[0].toFixed(2)), ...environment };
  appendFileSync(file, `${JSON.stringify(full)}\n`);
  console.log(line);
}
const jsonLines = (output) => output.split('\n').filter((line) => line.startsWith('{'));

function native(target) {
  const build = path.join(root, 'build-bench');
  text('cmake', ['-S', root, '-B', build, '-DFM_TESTS=ON', '-DFM_CUDA=off', '-DCMAKE_BUILD_TYPE=Release']);
  text('cmake', ['--build', build, '--target', target, '-j2']);
  if (target === 'conv_bench') spawnSync('cmake', ['--build', build, '--target', 'flashmargin_onednn']);
  return path.join(build, target);
}

const benches = {
  head() {
    const program = native('head_bench');
    const shapes = [
      [64, 512, 10_000, 31],
      [128, 512, 100_000, 9],
    ];
    for (const threads of [1, 2])
      for (const [N, D, C, reps] of shapes)
        for (const line of jsonLines(text(program, [N, D, C, threads, reps, '--json'].map(String)))) record(line);
    const extraMiB = Number(text(program, ['128', '512', '1000000', '2', '1', '--memory', 'ours']));
    record(JSON.stringify({ bench: 'head', mode: 'ours', N: 128, D: 512, C: 1_000_000, threads: 2, extraMiB }));
  },
  backbone() {
    const torch = spawnSync('/usr/bin/python3', ['-c', 'import torch']).status === 0;
    if (!torch) console.error('backbone: /usr/bin/python3 has no torch (apt-get install python3-torch): ours alone');
    for (let round = 0; round < 3; round++) {
      for (const line of jsonLines(text(process.execPath, ['bench/backbone.mjs', '8', '2', '5']))) record(line);
      if (!torch) continue;
      const output = text('/usr/bin/python3', ['bench/peers/backbone_torch.py', '18', '8', '2', '5'], {
        OMP_NUM_THREADS: '2',
      });
      const [, ms, imagesPerSecond] = /med (\d+) ms = ([\d.]+) img\/s/.exec(output);
      const rssMiB = Number(/RSS (\d+)/.exec(output)[1]);
      record(
        JSON.stringify({
          bench: 'backbone',
          mode: 'torch 1.13',
          net: 'iresnet18',
          N: 8,
          threads: 2,
          reps: 5,
          ms: Number(ms),
          imagesPerSecond: Number(imagesPerSecond),
          rssMiB,
        }),
      );
    }
  },
  conv() {
    console.log(text(native('conv_bench'), []));
  },
  demo() {
    for (const run of ['runs/demo', 'runs/softmax']) {
      const summary = path.join(root, run, 'summary.json');
      if (!existsSync(summary)) continue;
      const {
        title,
        seconds,
        evaluationSeconds,
        imagesPerSecond,
        headShare,
        environment: own,
        tiers,
        pairs,
        baselines,
      } = JSON.parse(readFileSync(summary, 'utf8'));
      record(
        JSON.stringify({
          bench: 'demo',
          run,
          title,
          seconds,
          evaluationSeconds,
          imagesPerSecond,
          headShare,
          convolutions: own.convolutions,
          tiers,
          pairs,
          pixels: baselines.find(({ name }) => name === 'raw pixels'),
        }),
      );
    }
  },
};

const chosen = process.argv.slice(2);
for (const name of chosen.length > 0 ? chosen : ['head', 'backbone']) {
  if (!benches[name]) {
    console.error(`bench: no benchmark '${name}'; there are ${Object.keys(benches).join(', ')}`);
    process.exit(2);
  }
  benches[name]();
}
