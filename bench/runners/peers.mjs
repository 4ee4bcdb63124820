// The whole head step (forward, dX, dW, SGD with momentum; ArcFace, scale 64, margin 0.5) against its peers.
import { alternate } from '../alternate.mjs';
import { missing, peer, peerNames } from '../peers.mjs';

const shapes = [
  { N: 64, D: 512, C: 10_000, rounds: 15, tfjs: true },
  { N: 128, D: 512, C: 100_000, rounds: 9 },
  { N: 256, D: 512, C: 1_000_000, rounds: 3 },
];
const tiny = [{ N: 8, D: 32, C: 400, rounds: 2, tfjs: true }];

/** tfjs has one thread in Node: it takes part where everybody has one. */
const takesPart = (name, { tfjs, threads }) => !name.startsWith('tfjs') || (tfjs && threads === 1);

export async function run({ record, say, smoke, budget, only }) {
  for (const name of peerNames) {
    const why = missing(name);
    if (why) say(`${name}: ${why}`);
  }
  for (const threads of smoke ? [1] : [1, 2]) {
    for (const shape of smoke ? tiny : shapes) {
      const { N, D, C, rounds } = shape;
      if (only.C && only.C !== C) continue;
      if (only.threads && only.threads !== threads) continue;
      const names = peerNames.filter((name) => takesPart(name, { ...shape, threads }) && !missing(name));
      const { rows, skipped } = await alternate(
        names.map((name) => peer(name, { N, D, C, threads })),
        { rounds, budget },
      );
      for (const row of rows) record({ bench: 'peers', N, D, C, threads, ...row });
      for (const { name, why } of skipped) {
        say(`${name} at N ${N}, D ${D}, C ${C}: ${why}`);
        record({ bench: 'peers', N, D, C, threads, peer: name, skipped: why });
      }
    }
  }
}
