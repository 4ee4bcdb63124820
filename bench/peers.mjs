// Who takes part in a comparison of heads: how each is started, about how much memory it takes, and what it needs.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, realpathSync, statSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { tfjsMissing, tfjsVersion } from './micro/tfjs.mjs';

const root = fileURLToPath(new URL('..', import.meta.url));
const file = (name) => path.join(root, 'bench/peers', name);
const python = '/usr/bin/python3';

/** glibc's malloc gives large blocks back at once, and a step of torch's then waits for fresh pages. */
const keptMalloc = {
  MALLOC_MMAP_MAX_: '0',
  MALLOC_TRIM_THRESHOLD_: '100000000000',
  MALLOC_TOP_PAD_: '67108864',
};

/** Links bench/native/peer_bench.cpp with the core that the addon was built of; the program's path, or why not. */
let built;
function peerProgram() {
  built ??= (() => {
    const core = path.join(root, 'build/libflashmargin_core.a');
    if (!existsSync(core)) return { why: 'there is no build/libflashmargin_core.a: npm run build:native with cmake' };
    const headers = ['native/common', 'native/cpu'].flatMap((folder) =>
      readdirSync(path.join(root, folder)).map((name) => path.join(root, folder, name)),
    );
    if (headers.some((name) => statSync(name).mtimeMs > statSync(core).mtimeMs))
      return { why: 'build/ is older than native/: npm run build:native' };
    const program = path.join(root, 'build-bench/peer_bench');
    const sources = ['peer_bench.cpp', 'materialized_head.h', 'materialized_head.inl'];
    const stamps = [core, ...sources.map((name) => path.join(root, 'bench/native', name))];
    const newest = Math.max(...stamps.map((name) => statSync(name).mtimeMs));
    if (existsSync(program) && statSync(program).mtimeMs > newest) return { program };
    mkdirSync(path.dirname(program), { recursive: true });
    const flags = ['-O3', '-std=c++20', '-pthread', '-Wno-psabi', path.join(root, 'bench/native/peer_bench.cpp')];
    const { status, stderr, error } = spawnSync('g++', [...flags, core, '-ldl', '-o', program], { encoding: 'utf8' });
    return status === 0 ? { program } : { why: `peer_bench does not build: ${error?.message ?? stderr.slice(0, 500)}` };
  })();
  return built;
}

/** Version of the library behind libopenblas.so.0, or '' where there is none. */
let blas;
function blasVersion() {
  blas ??= (() => {
    const { stdout = '' } = spawnSync('ldconfig', ['-p'], { encoding: 'utf8' });
    const [, library] = /libopenblas\.so\.0 .*=> (.*)/.exec(stdout) ?? [];
    return library ? `OpenBLAS ${/\d+\.\d+\.\d+/.exec(realpathSync(library))?.[0] ?? ''}`.trim() : '';
  })();
  return blas;
}
const blasMissing = () =>
  blasVersion() ? undefined : 'OpenBLAS is not installed: apt-get install libopenblas0-pthread';

let torch;
function torchVersion() {
  torch ??= spawnSync(python, ['-c', 'import numpy, torch; print(torch.__version__)'], { encoding: 'utf8' });
  return torch.status === 0 ? `torch ${torch.stdout.trim()}` : '';
}
const torchMissing = () => (torchVersion() ? undefined : `${python} has no torch: apt-get install python3-torch`);

/** What a float32 peer may differ by in its first step, relative to the largest value; and one with bfloat16 logits. */
const FLOAT32 = 1e-4;
const BFLOAT16 = 0.03;

// Bytes in terms of the class centers' R·D and the logits' N·R: weight and velocity count, and what is held besides.
const table = {
  ours: {
    about: 'flashmargin, MarginHead.step',
    bytes: ({ center }) => 2 * center,
    start: ({ N, D, C, threads, options = {} }) => ({
      command: process.execPath,
      args: ['--expose-gc', file('ours.mjs'), N, D, C, threads, JSON.stringify(options)],
    }),
  },
  native: {
    about: 'flashmargin, native alone',
    bytes: ({ center }) => 2 * center,
    missing: () => peerProgram().why,
    tolerance: FLOAT32,
    start: (shape) => program('ours', shape),
  },
  gemm3: {
    about: 'OpenBLAS, the three sgemm alone',
    bytes: ({ center, logits }) => 2 * center + logits,
    missing: () => peerProgram().why ?? blasMissing(),
    version: blasVersion,
    start: (shape) => program('gemm3', shape),
  },
  mat: {
    about: 'the step with [N, C] logits held, OpenBLAS',
    bytes: ({ center, logits }) => 4 * center + logits,
    missing: () => peerProgram().why ?? blasMissing(),
    version: blasVersion,
    tolerance: FLOAT32,
    start: (shape) => program('mat', shape),
  },
  'torch tuned': {
    about: 'torch, malloc told to keep memory',
    bytes: ({ center, logits }) => 5 * center + 8 * logits,
    missing: torchMissing,
    version: torchVersion,
    tolerance: FLOAT32,
    start: (shape) => torchStart(shape, keptMalloc),
  },
  'torch stock': {
    about: 'torch as installed',
    bytes: ({ center, logits }) => 5 * center + 7 * logits,
    missing: torchMissing,
    version: torchVersion,
    tolerance: FLOAT32,
    start: (shape) => torchStart(shape, {}),
  },
  'torch tuned bfloat16': {
    about: 'torch, malloc tuned, autocast to bfloat16',
    bytes: ({ center, logits }) => 5 * center + 8 * logits,
    missing: torchMissing,
    version: torchVersion,
    tolerance: BFLOAT16,
    start: (shape) => torchStart(shape, keptMalloc, 'bfloat16'),
  },
  'tfjs wasm': {
    about: 'tfjs, WebAssembly with SIMD, 1 thread',
    bytes: ({ center, logits }) => 7 * center + 20 * logits,
    missing: tfjsMissing,
    version: tfjsVersion,
    tolerance: FLOAT32,
    rounds: 5,
    start: ({ N, D, C }) => ({ command: process.execPath, args: ['--expose-gc', file('tfjs.mjs'), 'wasm', N, D, C] }),
  },
  'tfjs cpu': {
    about: 'tfjs, plain JavaScript, 1 thread',
    bytes: ({ center, logits }) => 7 * center + 20 * logits,
    missing: tfjsMissing,
    version: tfjsVersion,
    tolerance: FLOAT32,
    rounds: 3,
    start: ({ N, D, C }) => ({ command: process.execPath, args: ['--expose-gc', file('tfjs.mjs'), 'cpu', N, D, C] }),
  },
};

const program = (mode, { N, D, C, threads }) => ({ command: peerProgram().program, args: [mode, N, D, C, threads] });
const torchStart = ({ N, D, C, threads, options }, env, ...more) => ({
  command: python,
  args: [file('head_torch.py'), N, D, C, threads, options?.subCenters ?? 1, ...more],
  env: { ...env, OMP_NUM_THREADS: String(threads), OPENBLAS_NUM_THREADS: String(threads) },
});

export const peerNames = Object.keys(table);
export const aboutPeer = (name) => table[name].about;

/** Why a peer cannot run here, or undefined. */
export const missing = (name) => table[name].missing?.();

/** A peer for `alternate`. */
export function peer(name, shape) {
  const { bytes, start, version, tolerance, rounds } = table[name];
  const K = shape.options?.subCenters ?? 1;
  const center = 4 * shape.C * K * shape.D;
  const logits = 4 * shape.N * shape.C * K;
  const { command, args, env } = start(shape);
  const size = bytes({ center, logits }) + 100 * 2 ** 20;
  return { name, command, args: args.map(String), env, bytes: size, version: version?.(), tolerance, rounds };
}
