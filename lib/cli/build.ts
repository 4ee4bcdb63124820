import { spawnSync } from 'node:child_process';
import path from 'node:path';
import { Command } from 'commander';
import { packageRoot } from '../binding.js';
import { FlashmarginError } from '../errors.js';

export function buildCommand(): Command {
  return new Command('build')
    .description('builds the native addon from source, for where no prebuilt one fits')
    .action(() => {
      const { status } = spawnSync(process.execPath, [path.join(packageRoot, 'scripts/build-native.mjs')], {
        cwd: packageRoot,
        stdio: 'inherit',
      });
      if (status !== 0)
        throw new FlashmarginError('build: the native build failed', {
          code: 'ERR_FM_BUILD',
          hint: 'what is missing is said above: it takes g++ 12, make, and cmake 3.20 or python3',
        });
    });
}
