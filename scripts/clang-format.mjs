// Checks the C++ and CUDA sources against .clang-format; with --fix, formats them.
// Says so and succeeds where clang-format is not installed.
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const list = spawnSync(
  'git',
  ['ls-files', '-co', '--exclude-standard', 'native', 'src', 'test/native', 'bench/native'],
  { cwd: root, encoding: 'utf8' },
);
const files = list.stdout.split('\n').filter((file) => /\.(h|cpp|inl|cu|cuh)$/.test(file));

const how = process.argv.includes('--fix') ? ['-i'] : ['--dry-run', '--Werror'];
const { status, error } = spawnSync('clang-format', [...how, '--style=file', ...files], {
  cwd: root,
  stdio: 'inherit',
});
if (error) console.log('clang-format: skipped, it is not installed');
else if (status !== 0) console.error("clang-format: run 'npm run format'");
else console.log(`clang-format: ${files.length} files`);
process.exitCode = error ? 0 : status;
