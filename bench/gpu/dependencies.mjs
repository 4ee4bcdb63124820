// The folders in node_modules that the built package needs at run time, a line each; cmake-js only builds.
import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../..', import.meta.url));
const folders = new Set();

/** As Node resolves a package: beside the one that asks, or above it. */
function find(name, from) {
  for (let folder = from; folder.startsWith(root.replace(/\/$/, '')); folder = path.dirname(folder)) {
    const candidate = path.join(folder, 'node_modules', name);
    if (existsSync(path.join(candidate, 'package.json'))) return candidate;
  }
  return undefined;
}

function add(from) {
  const { dependencies = {} } = JSON.parse(readFileSync(path.join(from, 'package.json'), 'utf8'));
  for (const name of Object.keys(dependencies)) {
    const folder = name === 'cmake-js' ? undefined : find(name, from);
    if (!folder || folders.has(folder)) continue;
    folders.add(folder);
    add(folder);
  }
}

add(root.replace(/\/$/, ''));
for (const folder of folders) console.log(path.relative(root, folder));
