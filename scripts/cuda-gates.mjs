// Builds the CUDA library as it is shipped, and holds its kernels to their limits: no spills, no stack, registers and
// shared memory below the numbers here, and no CUDA library needed by the result.  native/cuda/hopper is for compute
// capability 9.0 alone.
//   node scripts/cuda-gates.mjs                        builds into build-gates, what has changed since the last time
//   node scripts/cuda-gates.mjs --built=FOLDER         of a build whose compiler was started by the line below
//   node scripts/cuda-gates.mjs --compile NVCC ARGS…   compiles, and leaves what it saw beside the object
// Says so and succeeds where there is no nvcc.
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { basename, delimiter, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const script = fileURLToPath(import.meta.url);

// The architectures of CMakeLists.txt.
const real = [75, 80, 90];
const virtual = [90];
const hopper = '90a';
const limits = { registers: 64, sharedBytes: 48 << 10, stackBytes: 0, spillBytes: 0 };
// Kernels that may take more, by a part of their mangled name: { part: { registers: 128 } }.
const allowances = {
  class_sweep_kernel: { registers: 168 }, // a tile's products; two blocks a multiprocessor in float32, one in float64
  features_product_kernel: { registers: 128 },
  weights_product_kernel: { registers: 128 },
  matmul_kernel: { registers: 128 }, // a tile's products, two blocks a multiprocessor
  conv_windows_kernel: { registers: 128 },
  conv_weight_kernel: { registers: 128 },
  // 64 sums a thread, and what becomes of them; one block a multiprocessor, by its shared memory too
  tensor_sweep_kernel: { registers: 255 },
  tensor_features_kernel: { registers: 168 },
  tensor_weights_kernel: { registers: 168 },
  head_rows_kernel: { registers: 80 },
  // a tile's products, two blocks a multiprocessor
  cosines_kernel: { registers: 128 },
  feature_slabs_kernel: { registers: 128 },
  weight_product_kernel: { registers: 128 },
  scores_kernel: { registers: 128 },
  target_kernel: { stackBytes: 40 }, // sin and cos of large angles, once a row
  target_rows_kernel: { stackBytes: 40 },
  kept_targets_kernel: { stackBytes: 40 },
  transform_backward_kernel: { registers: 72 }, // in float64: the row's φ, slopes and two sums
  hopper: { registers: 168 }, // 384 threads a multiprocessor; a producer's registers go to the warpgroups that multiply
};
// What a kernel's machine code must hold, must not, or at most so often, from an architecture on; by a part of the
// kernel's mangled name.
// Named by compiling an instruction at a time; operand forms are left out.
const operations = {
  60: 'HMMA',
  387: 'LDL',
  391: 'STL',
  264: 'MUFU',
  496: 'HGMMA',
  436: 'UTMALDG',
  437: 'UTMASTG',
  427: 'ERRBAR', // after each fence of the whole GPU
};
const opcodes = [
  { part: 'tensor_', from: 80, present: ['HMMA'], absent: ['LDL', 'STL'] }, // products on the tensor cores, nothing spilled
  // fences where the kernel begins, ends and gives up, and none in a loop over stages
  { part: 'hopper', from: 90, present: ['HGMMA', 'UTMALDG'], absent: ['LDL', 'STL'], most: { ERRBAR: 16 } },
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
    .flatMap(({ present, absent, most = {} }) => [
      ...present.filter((operation) => !counts[operation]).map((operation) => `has no ${operation}`),
      ...absent.filter((operation) => counts[operation]).map((operation) => `has ${counts[operation]} ${operation}`),
      ...Object.entries(most)
        .filter(([operation, limit]) => counts[operation] > limit)
        .map(([operation, limit]) => `has ${counts[operation]} ${operation}, at most ${limit}`),
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

/** Compiles as told; what ptxas reports and the machine code hold goes into a file beside the object. */
function compile([nvcc, ...args]) {
  const object = args[args.indexOf('-o') + 1];
  const source = args[args.indexOf('-c') + 1];
  if (!args.includes('-c')) return spawnSync(nvcc, args, { stdio: 'inherit' }).status ?? 1; // the linker's, or a question
  const kept = mkdtempSync(`${object}.kept-`);
  const { status, stdout, stderr } = spawnSync(nvcc, ['-Xptxas', '-v', '--keep', '--keep-dir', kept, ...args], {
    encoding: 'utf8',
    maxBuffer: 64 << 20,
  });
  const log = `${stdout}${stderr}`;
  const problems = log
    .split('\n')
    .filter((line) => /warning|\(C75\d\d\)/i.test(line)) // C75xx: warpgroup products that are not asynchronous
    .map((line) => `${basename(source)}: ${line}`);
  let checked = 0;
  for (const cubin of readdirSync(kept).filter((name) => name.endsWith('.cubin'))) {
    // Where there is but one architecture, the file's name does not say which.
    const architecture = Number(/_(\d+)a?\.cubin$/.exec(cubin)?.[1] ?? Number.parseInt(hopper, 10));
    const looked = countOperations(readFileSync(join(kept, cubin)));
    checked += looked.filter(({ name }) => opcodes.some(({ part }) => name.includes(part))).length;
    problems.push(...looked.flatMap((kernel) => wrongOperations(kernel, architecture)));
  }
  rmSync(kept, { recursive: true });
  if (status === 0) writeFileSync(`${object}.json`, JSON.stringify({ kernels: parseKernels(log), problems, checked }));
  else process.stderr.write(log);
  return status ?? 1;
}

function build(folder, nvcc) {
  const launcher = `${process.execPath};${script};--compile`;
  const options = [`-DCMAKE_CUDA_COMPILER=${nvcc}`, `-DCMAKE_CUDA_COMPILER_LAUNCHER=${launcher}`, '-DFM_ONEDNN=off'];
  const parallel = String(availableParallelism());
  for (const args of [
    ['-S', root, '-B', folder, '-DFM_CUDA=on', ...options],
    ['--build', folder, '--target', 'flashmargin_cuda', '--parallel', parallel],
  ]) {
    const { status, stdout, stderr } = spawnSync('cmake', args, { encoding: 'utf8', maxBuffer: 1 << 28 });
    if (status !== 0) throw new Error(`cmake ${args.join(' ')}\n${stdout}${stderr}`);
  }
}

/** The files under `folder`, as paths in it. */
const filesIn = (folder) => readdirSync(folder, { recursive: true });

function main() {
  const nvcc = findNvcc();
  if (!nvcc) {
    console.log('cuda gates: skipped, no nvcc on PATH, in CUDA_PATH or in /usr/local/cuda');
    return;
  }
  const built = process.argv.find((arg) => arg.startsWith('--built='))?.slice('--built='.length);
  const folder = built ?? join(root, 'build-gates');
  if (!built) build(folder, nvcc);

  const files = filesIn(join(root, 'native/cuda')).filter((file) => file.endsWith('.cu'));
  const made = filesIn(folder);
  const problems = [];
  const reports = files.map((file) => {
    const report = made.find((name) => name.endsWith(join('native/cuda', `${file}.o.json`)));
    if (report) return JSON.parse(readFileSync(join(folder, report), 'utf8'));
    problems.push(`nothing is reported of native/cuda/${file} in ${folder}`);
    return { kernels: [], problems: [], checked: 0 };
  });
  const kernels = reports.flatMap((report) => report.kernels);
  problems.push(...reports.flatMap((report) => report.problems), ...kernels.flatMap(violations));
  if (!reports.some(({ checked }) => checked)) problems.push('the code of no kernel was looked into');

  const expected = new Set([...real, hopper].map((n) => `sm_${n}`));
  for (const architecture of expected)
    if (!kernels.some((kernel) => kernel.architecture === architecture))
      problems.push(`no kernel was compiled for ${architecture}`);

  const library = made.find((name) => basename(name) === 'libflashmargin_cuda.so');
  if (!library) problems.push(`there is no libflashmargin_cuda.so in ${folder}`);
  const dynamic = library ? execFileSync('readelf', ['-d', join(folder, library)], { encoding: 'utf8' }) : '';
  const needed = [...dynamic.matchAll(/\(NEEDED\).*\[(.+)\]/g)].map((match) => match[1]);
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
}

if (process.argv[1] === script) {
  if (process.argv[2] === '--compile') process.exitCode = compile(process.argv.slice(3));
  else main();
}
