// Time and memory of a step as the classes grow; one thread, so that tfjs can stand beside the others.
// bench/plot.mjs draws it.
import { alternate } from '../alternate.mjs';
import { missing, peer } from '../peers.mjs';

const N = 128;
const D = 128;
const sizes = [1e3, 3e3, 1e4, 3e4, 1e5, 3e5, 1e6, 2e6, 4e6];
const names = ['ours', 'mat', 'torch tuned', 'tfjs wasm'];

export async function run({ record, say, smoke, budget, only }) {
  for (const name of names) if (missing(name)) say(`${name}: ${missing(name)}`);
  for (const C of smoke ? [900] : sizes) {
    if (only.C && C > only.C) continue;
    const rounds = smoke ? 1 : C > 3e5 ? 2 : 5;
    const shape = smoke ? { N: 8, D: 32, C, threads: 1 } : { N, D, C, threads: 1 };
    const peers = names.filter((name) => !missing(name)).map((name) => peer(name, shape));
    const { rows, skipped } = await alternate(peers, { rounds, budget });
    for (const row of rows) record({ bench: 'scale', ...shape, ...row });
    for (const { name, why } of skipped) {
      say(`${name} at C ${C}: ${why}`);
      record({ bench: 'scale', ...shape, peer: name, skipped: why });
    }
  }
}
