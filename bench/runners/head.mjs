// bench/native/head_bench.cpp: the native step, OpenBLAS's products and the materialising twin alternating in one
// process.
import { execFileSync } from 'node:child_process';
import { jsonLines, nativeProgram } from '../native.mjs';

const shapes = [
  [64, 512, 10_000, 31],
  [128, 512, 100_000, 9],
];

export function run({ record, say, smoke }) {
  if (smoke) return say('head: builds the whole core, so it has no smoke run');
  const program = nativeProgram('head_bench');
  const output = (...args) => execFileSync(program, args.map(String), { encoding: 'utf8' });
  for (const threads of [1, 2])
    for (const [N, D, C, reps] of shapes)
      for (const row of jsonLines(output(N, D, C, threads, reps, '--json'))) record(row);
  const extraMiB = Number(output(128, 512, 1_000_000, 2, 1, '--memory', 'ours'));
  record({ bench: 'head', mode: 'ours', N: 128, D: 512, C: 1_000_000, threads: 2, extraMiB });
}
