// The C++ benches that CMake builds.
import { execFileSync, spawnSync } from 'node:child_process';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));

/** Builds bench/native/<name>.cpp in build-bench; `plugins` may fail, where their library is not installed. */
export function nativeProgram(name, plugins = []) {
  const build = path.join(root, 'build-bench');
  const cmake = (...args) => execFileSync('cmake', args, { stdio: ['ignore', 'ignore', 'inherit'] });
  cmake('-S', root, '-B', build, '-DFM_TESTS=ON', '-DFM_CUDA=off', '-DCMAKE_BUILD_TYPE=Release');
  cmake('--build', build, '--target', name, '-j2');
  for (const plugin of plugins) spawnSync('cmake', ['--build', build, '--target', plugin]);
  return path.join(build, name);
}

export const jsonLines = (output) =>
  output
    .split('\n')
    .filter((line) => line.startsWith('{'))
    .map((line) => JSON.parse(line));
