/** The CUDA library under the host emulation, a device 'cuda' on any machine; scripts/build-emulated.mjs builds it. */
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const file = fileURLToPath(
  new URL('../build-emulated/test/native/emulation/libflashmargin_cuda_emulated.so', import.meta.url),
);

/** For FLASHMARGIN_CUDA; undefined where it was not built. */
export const emulatedCuda = existsSync(file) ? file : undefined;
