// Builds the addon into build/Release: cmake-js where cmake is found (with the CUDA and oneDNN plug-ins that the
// machine allows), node-gyp otherwise or with --gyp (the CPU addon alone).  Prints one line; the whole log on failure.
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { availableParallelism } from 'node:os';
import path from 'node:path';

const require = createRequire(import.meta.url);
const args = process.argv.slice(2);
const has = (program) => spawnSync(program, ['--version']).status === 0;
const withGyp = args.includes('--gyp') || !has('cmake');
const rest = args.filter((arg) => arg !== '--gyp');

if (withGyp && !existsSync(new URL('../binding.gyp', import.meta.url))) {
  process.stderr.write('flashmargin: cmake was not found: apt-get install cmake g++ make, then try again\n');
  process.exit(1);
}

function command() {
  if (!withGyp)
    return [
      path.join(path.dirname(require.resolve('cmake-js/package.json')), 'bin/cmake-js'),
      ['compile', '--parallel', String(availableParallelism()), ...rest], // make does one file at a time otherwise
    ];
  // Node's own headers, where the installation has them: node-gyp would download them otherwise.
  const prefix = path.resolve(path.dirname(process.execPath), '..');
  const headers = existsSync(path.join(prefix, 'include/node/node_api.h')) ? [`--nodedir=${prefix}`] : [];
  return [
    path.join(path.dirname(require.resolve('node-gyp/package.json')), 'bin/node-gyp.js'),
    ['rebuild', ...headers, ...rest],
  ];
}

const [script, scriptArgs] = command();
const started = Date.now();
// npm's own nodedir setting makes cmake-js forget node-addon-api's include folder.
const env = Object.fromEntries(
  Object.entries(process.env).filter(([name]) => withGyp || name.toLowerCase() !== 'npm_config_nodedir'),
);
const result = spawnSync(process.execPath, [script, ...scriptArgs], {
  env,
  encoding: 'utf8',
  maxBuffer: 1 << 28,
  stdio: ['ignore', 'pipe', 'pipe'],
});
const log = `${result.stdout}${result.stderr}`;
if (result.status !== 0) {
  process.stderr.write(
    `${log}\nflashmargin: the native build failed (${path.basename(script)}); the cause is above.\n`,
  );
  process.stderr.write(
    '  needs: g++ 12 or newer, make, and cmake 3.20 (or python3 for --gyp): apt-get install g++ make cmake python3\n',
  );
  process.exit(1);
}
process.stderr.write(
  `native addon built by ${withGyp ? 'node-gyp' : 'cmake-js'} in ${((Date.now() - started) / 1000).toFixed(0)} s\n`,
);
