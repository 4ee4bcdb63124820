import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';

const script = fileURLToPath(new URL('../scripts/layers.mjs', import.meta.url));

let root: string;
beforeEach(() => {
  root = mkdtempSync(path.join(tmpdir(), 'flashmargin-layers-'));
});
afterEach(() => {
  rmSync(root, { recursive: true });
});

function write(file: string, text: string) {
  mkdirSync(path.dirname(path.join(root, file)), { recursive: true });
  writeFileSync(path.join(root, file), text);
}
function check(where: string) {
  const { status, stdout, stderr } = spawnSync(process.execPath, [script, where], { encoding: 'utf8' });
  return { status, output: stdout + stderr };
}

const crossings = [
  {
    why: 'an import upwards',
    file: 'lib/ops/matmul.ts',
    text: "import { Tensor } from '../tensor.js';\nimport { Trainer } from '../train/trainer.js';\n",
    says: ['lib/ops/matmul.ts:2', 'lib/train/trainer.js', 'train is above ops'],
  },
  {
    why: 'a type import upwards',
    file: 'lib/tensor.ts',
    text: "import type { Op } from './autograd.js';\n",
    says: ['lib/tensor.ts:1', 'autograd is above tensor'],
  },
  {
    why: 'an import over several lines',
    file: 'lib/nn/layers.ts',
    text: "import {\n  run,\n} from '../cli/main.js';\n",
    says: ['lib/nn/layers.ts:3', 'cli is above nn'],
  },
  {
    why: 'a dynamic import upwards',
    file: 'lib/binding.ts',
    text: "const t = await import('./tensor.js');\n",
    says: ['lib/binding.ts:1', 'tensor is above binding'],
  },
  {
    why: 'an export from a neighbour',
    file: 'lib/heads/index.ts',
    text: "export { Module } from '../nn/index.js';\n",
    says: ['lib/heads/index.ts:1', 'nn is beside heads'],
  },
  {
    why: 'a second door',
    file: 'lib/io/files.ts',
    text: "const addon = require('bindings')('flashmargin');\n",
    says: ['lib/io/files.ts:1', 'only door to the addon'],
  },
  { why: 'a folder without a place', file: 'lib/extras/a.ts', text: '', says: ['extras', 'no place yet'] },
  {
    why: 'Node-API in native',
    file: 'native/common/tensor.h',
    text: '#include <vector>\n#include <napi.h>\n',
    says: ['native/common/tensor.h:2', '<napi.h>'],
  },
  {
    why: 'the CPU knowing CUDA',
    file: 'native/cpu/gemm.cpp',
    text: '#include "../cuda/backend.h"\n',
    says: ['native/cpu/gemm.cpp:1', 'native/cuda/backend.h'],
  },
  {
    why: 'CUDA knowing the CPU',
    file: 'native/cuda/gemm.cu',
    text: '#include "../cpu/backend.h"\n',
    says: ['native/cuda/gemm.cu:1', 'native/cpu/backend.h'],
  },
  {
    why: 'the contract knowing a device',
    file: 'native/common/devices.h',
    text: '#include <cuda_runtime.h>\n',
    says: ['native/common/devices.h:1', '<cuda_runtime.h>'],
  },
  {
    why: 'the glue knowing a plug-in',
    file: 'src/ops.cpp',
    text: '#include "../native/cuda/backend.h"\n',
    says: ['src/ops.cpp:1', 'opened at run time'],
  },
];

describe('layering', () => {
  it.each(crossings)('finds $why', ({ file, text, says }) => {
    write(file, text);
    const { status, output } = check(root);
    expect(status).toBe(1);
    for (const part of says) expect(output).toContain(part);
    expect(output).toContain('layers: 1 crossed');
  });

  it('leaves a tree alone whose arrows point down', () => {
    write('lib/train/trainer.ts', "import { SGD } from '../optim/index.js';\nimport './config.js';\n");
    write('lib/ops/matmul.ts', "import { native } from '../binding.js'; // as in import x from '../cli/main.js'\n");
    write('lib/heads/a.ts', "/**\n * import { run } from '../cli/main.js';\n */\nimport path from 'node:path';\n");
    write('native/cpu/gemm.cpp', '#include <vector>\n#include "../common/tensor.h"\n#include "gemm.h"\n');
    write('src/ops.cpp', '#include <napi.h>\n#include "../native/cpu/parallel.h"\n');
    expect(check(root)).toEqual({ status: 0, output: 'layers: none crossed\n' });
  });

  it('holds in this repository', () => {
    expect(check(fileURLToPath(new URL('..', import.meta.url)))).toEqual({
      status: 0,
      output: 'layers: none crossed\n',
    });
  });
});
