import { Command } from 'commander';
import { native, packageRoot } from '../binding.js';

interface Finding {
  readonly part: string;
  readonly state: 'ok' | 'off';
  readonly detail: string;
}

/** What was found, what was not, and why. */
export function diagnose(): Finding[] {
  const node: Finding = { part: 'node', state: 'ok', detail: `${process.version} ${process.platform}-${process.arch}` };
  let status: ReturnType<typeof native.status>;
  try {
    status = native.status();
  } catch (error) {
    return [{ part: 'addon', state: 'off', detail: (error as Error).message }, node];
  }
  const { isa, threads, onednn, cudaDevices, cuda, cudaRuntime, cudaDriver, cudaList } = status;
  return [
    { part: 'addon', state: 'ok', detail: packageRoot },
    node,
    { part: 'cpu', state: 'ok', detail: `${isa}, ${threads} thread${threads === 1 ? '' : 's'}` },
    {
      part: 'bfloat16',
      state: isa === 'avx512bf16' ? 'ok' : 'off',
      detail: isa === 'avx512bf16' ? 'AVX-512-BF16' : `emulated: ${isa} multiplies float32`,
    },
    { part: 'onednn', state: /^oneDNN \d/.test(onednn) ? 'ok' : 'off', detail: onednn },
    {
      part: 'cuda',
      state: cudaDevices > 0 ? 'ok' : 'off',
      detail: cudaDevices > 0 ? `CUDA ${cudaRuntime}, driver for CUDA ${cudaDriver}` : cuda,
    },
    ...cudaList.map(
      ({ name, computeCapability, memory, head }, index): Finding => ({
        part: `cuda:${index}`,
        state: 'ok',
        detail: `${name}, compute capability ${computeCapability}, ${(memory / 2 ** 30).toFixed(1)} GiB; head: ${head}`,
      }),
    ),
    ...cudaList.map((_, index) => headPath(index)),
    // Without a device there is nothing for them to do.
    ...(cudaDevices > 0 ? native.cudaLibraries() : []).map(
      ({ name, used, version, path, detail }): Finding => ({
        part: name.toLowerCase(),
        state: used ? 'ok' : 'off',
        detail: version ? `${version}, ${path}: ${detail}` : detail,
      }),
    ),
  ];
}

/** Runs a small head on each of its paths. */
function headPath(device: number): Finding {
  const part = `head:${device}`;
  try {
    const { chosen, warning } = native.headPath(device);
    return { part, state: warning === '' ? 'ok' : 'off', detail: warning === '' ? chosen : `${warning}; ${chosen}` };
  } catch (error) {
    return { part, state: 'off', detail: (error as Error).message };
  }
}

export function doctorCommand(): Command {
  return new Command('doctor')
    .description('says what was found, what was not, and why')
    .option('--json', 'machine-readable, on stdout')
    .action(({ json }: { json?: boolean }) => {
      const findings = diagnose();
      if (json) console.log(JSON.stringify(findings, null, 2));
      else
        for (const { part, state, detail } of findings) console.log(`${part.padEnd(8)} ${state.padEnd(4)} ${detail}`);
    });
}
