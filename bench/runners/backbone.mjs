// Images a second of iresnet18, forward, backward and update, against torch's forward and backward.
import { execFileSync, spawnSync } from 'node:child_process';
import path from 'node:path';
import { jsonLines } from '../native.mjs';

const python = '/usr/bin/python3';

export function run({ root, record, say, smoke }) {
  const output = (command, args, env = {}) =>
    execFileSync(command, args, { cwd: root, encoding: 'utf8', env: { ...process.env, ...env } });
  const [N, threads, reps, rounds] = smoke ? [2, 1, 1, 1] : [8, 2, 5, 3];
  const sizes = [N, threads, reps].map(String);
  const torch = spawnSync(python, ['-c', 'import torch']).status === 0;
  if (!torch) say(`backbone: ${python} has no torch (apt-get install python3-torch): ours alone`);
  for (let round = 0; round < rounds; round++) {
    for (const row of jsonLines(output(process.execPath, [path.join(root, 'bench/backbone.mjs'), ...sizes])))
      record(row);
    if (!torch) continue;
    const text = output(python, [path.join(root, 'bench/peers/backbone_torch.py'), '18', ...sizes], {
      OMP_NUM_THREADS: String(threads),
    });
    const [, ms, imagesPerSecond] = /med (\d+) ms = ([\d.]+) img\/s/.exec(text).map(Number);
    const rssMiB = Number(/RSS (\d+)/.exec(text)[1]);
    record({
      bench: 'backbone',
      mode: 'torch 1.13',
      net: 'iresnet18',
      N,
      threads,
      reps,
      ms,
      imagesPerSecond,
      rssMiB,
    });
  }
}
