// What each published margin costs beside ArcFace: whole steps of two heads that take turns in one process.  The
// weights are random, so that about every negative is above the target's φ: the dearest case of a method that looks.
import { MarginHead, margins, setNumThreads } from 'flashmargin';
import { median } from '../alternate.mjs';
import { features, labels, weights } from '../data.mjs';

/** Presets, and what a method's state makes of it in the course of a training. */
const rows = [
  ...Object.keys(margins).map((method) => ({ margin: method, options: { method, ...margins[method].params } })),
  {
    margin: 'curricularface, t 0.3',
    options: { method: 'curricularface', ...margins.curricularface.params, t: 0.3, tRate: 0 },
  },
];

export function run({ record, smoke, only }) {
  const [N, D, C, rounds] = smoke ? [8, 32, 400, 3] : [128, 512, only.C ?? 100_000, 9];
  const threads = only.threads ?? 1;
  setNumThreads(threads);
  const x = features(N, D);
  const y = labels(N, C);
  const initial = weights(C * D);
  const timed = (head) => {
    const began = performance.now();
    head.stepSync(x, y, { lr: 1e-6 });
    return performance.now() - began;
  };
  const headOf = (margin) => {
    const head = new MarginHead({ numClasses: C, embeddingSize: D, margin });
    head.weight.set(initial);
    head.stepSync(x, y, { lr: 1e-6 });
    return head;
  };
  const arcface = headOf(rows.find((row) => row.margin === 'arcface').options);
  for (const { margin, options } of rows) {
    if (margin === 'arcface') continue;
    const head = headOf(options);
    const pairs = Array.from({ length: rounds }, () => [timed(arcface), timed(head)]);
    head.dispose();
    const times = pairs.map(([, ms]) => ms);
    record({
      bench: 'margins',
      margin,
      N,
      D,
      C,
      threads,
      rounds,
      ms: median(times),
      min: Math.min(...times),
      max: Math.max(...times),
      arcfaceMs: median(pairs.map(([ms]) => ms)),
      perArcface: median(pairs.map(([base, ms]) => ms / base)),
    });
  }
  arcface.dispose();
}
