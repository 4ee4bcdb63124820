// Builds native/cuda for the host, under test/native/emulation, and stubs of the libraries that it opens, into
// build-emulated/: what tests of device 'cuda' open where there is no GPU.  Says so and succeeds where there is no cmake; those tests are skipped then.
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const build = fileURLToPath(new URL('../build-emulated', import.meta.url));
const target = 'flashmargin_cuda_emulated';
const off = ['-DFM_TESTS=ON', '-DFM_CUDA=off', '-DFM_ONEDNN=off'];
if (spawnSync('cmake', ['--version']).status !== 0) console.log(`${target}: skipped, no cmake`);
else
  for (const args of [
    ['-S', root, '-B', build, ...off],
    ['--build', build, '--target', target, 'fm_stubs', '--parallel', '2'],
  ]) {
    const { status, stdout, stderr } = spawnSync('cmake', args, { encoding: 'utf8', maxBuffer: 1 << 28 });
    if (status === 0) continue;
    process.stderr.write(`${stdout}${stderr}\n${target}: the build failed; the cause is above\n`);
    process.exit(1);
  }
