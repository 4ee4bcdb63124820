// bench/native/conv_bench.cpp: each convolution of iresnet, own kernels and oneDNN.  Printed only.
import { execFileSync } from 'node:child_process';
import { nativeProgram } from '../native.mjs';

export function run({ say, smoke }) {
  if (smoke) return say('conv: builds the whole core, so it has no smoke run');
  console.log(execFileSync(nativeProgram('conv_bench', ['flashmargin_onednn']), { encoding: 'utf8' }));
}
