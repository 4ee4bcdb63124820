// Compiles native/cuda for every architecture that is shipped, and holds the kernels to their limits: no spills, no
// stack, registers and shared memory below the numbers here, and no CUDA library needed by the result.
// native/cuda/hopper is for compute capability 9.0 alone.
// Says so and succeeds where there is no nvcc.
import { execFile, execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const run = promisify(execFile);
const sources = fileURLToPath(new URL('../native/cuda/', import.meta.url));

const real = [75, 80, 86, 89, 90];
const virtual = [90];
const hopper = '90a';
const limits = { registers: 64, sharedBytes: 48 << 10, stackBytes: 0, spillBytes: 0 };
// Kernels that may take more, by a part of their mangled name: { part: { registers: 128 } }.
const allowances = {
  class_sweep_kernel: { registers: 168 }, // a tile's products; two blocks a multiprocessor in float32, one in float64
  features_product_kernel: { registers: 128 },
  weights_product_kernel: { registers: 128 },
  // 64 sums a thread, and what becomes of them; one block a multiprocessor, by its shared memory too
  tensor_sweep_kernel: { registers: 255 },
  tensor_features_kernel: { registers: 168 },
  tensor_weights_kernel: { registers: 168 },
  head_rows_kernel: { registers: 80 },
  target_kernel: { stackBytes: 40 }, // sin and cos of large angles, once a row
  hopper: { registers: 168 }, // 384 threads a multiprocessor; a producer's registers go to the warpgroups that multiply
};
// What a kernel's machine code must hold, or must not, from an architecture on; by a part of the kernel's mangled name.
// Named by compiling an instruction at a time; operand forms are left out.
const operations = {
  60: 'HMMA',
  387: 'LDL',
  391: 'STL',
  264: 'MUFU',
  496: 'HGMMA',
  436: 'UTMALDG',
  437: 'UTMASTG',
};
const opcodes = [
  { part: 'tensor_', from: 80, present: ['HMMA'], absent: ['LDL', 'STL'] }, // products on the tensor cores, nothing spilled
  { part: 'hopper', from: 90, present: ['HGMMA', 'UTMALDG'], absent: ['LDL', 'STL'] },
  { part: 'ScoresWork', from: 90, present: ['UTMASTG'], absent: [] },
];
const systemLibraries = /^(libc|libm|libdl|librt|libpthread|libstdc\+\+|libgcc_s|ld-linux-x86-64)\.so/;

function findNvcc() {
  const folders = [
    ...(process.env.PATH ?? '').split(delimiter),
    ...(process.env.CUDA_PATH ? [join(process.env.CUDA_PATH, 'bin')] : []),
    '/usr/local/cuda/bin',
  ];
  return folders.map((folder) => join(folder, 'nvcc')).find(existsSync);
}

/** ptxas -v, a kernel at a time: "Compiling entry function 'NAME' for 'sm_80'", then its numbers. */
export function parseKernels(log) {
  const kernels = [];
  for (const line of log.split('\n')) {
    const start = /Compiling entry function '(\S+)' for '(\S+)'/.exec(line);
    if (start)
      kernels.push({
        name: start[1],
        architecture: start[2],
        stackBytes: 0,
        spillBytes: 0,
        registers: 0,
        sharedBytes: 0,
      });
    const kernel = kernels.at(-1);
    if (!kernel) continue;
    const stack = /(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads/.exec(line);
    if (stack) {
      kernel.stackBytes = Math.max(kernel.stackBytes, Number(stack[1]));
      kernel.spillBytes = Math.max(kernel.spillBytes, Number(stack[2]) + Number(stack[3]));
    }
    const used = /Used (\d+) registers/.exec(line);
    if (used) {
      kernel.registers = Number(used[1]);
      kernel.sharedBytes = Number(/(\d+) bytes smem/.exec(line)?.[1] ?? 0);
    }
  }
  return kernels;
}

/** A cubin's kernels: how often each operation is in their code, in instructions of 16 bytes. */
export function countOperations(cubin) {
  const sections = [];
  const table = Number(cubin.readBigUInt64LE(40));
  const [size, count, names] = [58, 60, 62].map((at) => cubin.readUInt16LE(at));
  for (let i = 0; i < count; i++) {
    const at = table + i * size;
    sections.push({
      name: cubin.readUInt32LE(at),
      begin: Number(cubin.readBigUInt64LE(at + 24)),
      bytes: Number(cubin.readBigUInt64LE(at + 32)),
    });
  }
  const nameAt = (at) => cubin.toString('latin1', at, cubin.indexOf(0, at));
  return sections
    .map(({ name, begin, bytes }) => ({ name: nameAt(sections[names].begin + name), begin, bytes }))
    .filter(({ name }) => name.startsWith('.text.'))
    .map(({ name, begin, bytes }) => {
      const counts = {};
      for (let at = begin; at + 16 <= begin + bytes; at += 16) {
        const operation = operations[cubin.readUInt16LE(at) & 0x1ff];
        if (operation) counts[operation] = (counts[operation] ?? 0) + 1;
      }
      return { name: name.slice('.text.'.length), counts };
    });
}

export function wrongOperations({ name, counts }, architecture) {
  return opcodes
    .filter(({ part, from }) => name.includes(part) && architecture >= from)
    .flatMap(({ present, absent }) => [
      ...present.filter((operation) => !counts[operation]).map((operation) => `has no ${operation}`),
      ...absent.filter((operation) => counts[operation]).map((operation) => `has ${counts[operation]} ${operation}`),
    ])
    .map((what) => `${name} for sm_${architecture} ${what}`);
}

export function violations(kernel) {
  const own = Object.entries(allowances).find(([part]) => kernel.name.includes(part))?.[1];
  return Object.entries({ ...limits, ...own })
    .filter(([quantity, limit]) => kernel[quantity] > limit)
    .map(
      ([quantity, limit]) =>
        `${kernel.name} for ${kernel.architecture}: ${quantity} ${kernel[quantity]}, at most ${limit}`,
    );
}

async function main() {
  const nvcc = findNvcc();
  if (!nvcc) {
    console.log('cuda gates: skipped, no nvcc on PATH, in CUDA_PATH or in /usr/local/cuda');
    return;
  }
  const folder = mkdtempSync(join(tmpdir(), 'flashmargin-gates-'));
  try {
    const targets = [
      ...real.map((n) => `arch=compute_${n},code=sm_${n}`),
      ...virtual.map((n) => `arch=compute_${n},code=compute_${n}`),
    ].flatMap((code) => ['-gencode', code]);
    const sourcesIn = (path) => readdirSync(join(sources, path)).filter((file) => file.endsWith('.cu'));
    const files = [
      ...sourcesIn('.').map((file) => ({ file, flags: targets })),
      ...sourcesIn('hopper').map((file) => ({
        file: join('hopper', file),
        flags: ['-gencode', `arch=compute_${hopper},code=sm_${hopper}`],
      })),
    ].map(({ file, flags }, i) => ({ file, flags, object: join(folder, `${i}.o`) }));
    const kernels = [];
    const problems = [];
    let checked = 0;
    for (const { file, flags, object } of files) {
      const kept = mkdtempSync(join(folder, 'kept-'));
      const { stdout, stderr } = await run(
        nvcc,
        [
          '-std=c++17',
          '-O3',
          '-Xcompiler',
          '-fPIC,-fvisibility=hidden',
          '-Xptxas',
          '-v',
          ...flags,
          '--keep',
          '--keep-dir',
          kept,
          '-c',
          join(sources, file),
          '-o',
          object,
        ],
        { maxBuffer: 64 << 20 },
      );
      for (const cubin of readdirSync(kept).filter((name) => name.endsWith('.cubin'))) {
        // Where there is but one architecture, the file's name does not say which.
        const architecture = Number(/_(\d+)a?\.cubin$/.exec(cubin)?.[1] ?? Number.parseInt(hopper, 10));
        const looked = countOperations(readFileSync(join(kept, cubin)));
        checked += looked.filter(({ name }) => opcodes.some(({ part }) => name.includes(part))).length;
        problems.push(...looked.flatMap((kernel) => wrongOperations(kernel, architecture)));
      }
      rmSync(kept, { recursive: true });
      const log = stdout + stderr;
      kernels.push(...parseKernels(log));
      problems.push(
        ...log
          .split('\n')
          .filter((line) => /warning|\(C75\d\d\)/i.test(line)) // C75xx: warpgroup products that are not asynchronous
          .map((line) => `${file}: ${line}`),
      );
    }
    problems.push(...kernels.flatMap(violations));
    if (!checked) problems.push('the code of no kernel was looked into');

    const expected = new Set([...real, hopper].map((n) => `sm_${n}`));
    for (const architecture of expected)
      if (!kernels.some((kernel) => kernel.architecture === architecture))
        problems.push(`no kernel was compiled for ${architecture}`);

    const library = join(folder, 'libflashmargin_cuda.so');
    await run(nvcc, ['-shared', '-cudart', 'static', ...files.map(({ object }) => object), '-o', library]);
    const needed = [
      ...execFileSync('readelf', ['-d', library], { encoding: 'utf8' }).matchAll(/\(NEEDED\).*\[(.+)\]/g),
    ].map((match) => match[1]);
    problems.push(
      ...needed
        .filter((name) => !systemLibraries.test(name))
        .map((name) => `the library needs ${name}: open it at run time instead`),
    );

    for (const problem of problems) console.error(`cuda gates: ${problem}`);
    const most = (quantity) => Math.max(...kernels.map((kernel) => kernel[quantity]));
    console.log(
      `cuda gates: ${files.length} files, ${kernels.length} kernels over ${[...expected].join(' ')} and PTX ${virtual.join(' ')}; ` +
        `at most ${most('registers')} registers, ${most('sharedBytes')} bytes shared, ${most('spillBytes')} spilled; ${problems.length} problems`,
    );
    process.exitCode = problems.length ? 1 : 0;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await main();
