// What each published margin costs beside ArcFace: whole steps of two heads that take turns in one process.  The
// weights are random, so that about every negative is above the target's φ: the dearest case of a method that looks.
import { filteredNegatives, learnedScale, MarginHead, margins, presetOf, setNumThreads } from 'flashmargin';
import { median } from '../alternate.mjs';
import { features, labels, weights } from '../data.mjs';

/** Presets, their variants, and what a method's state makes of it in the course of a training. */
const rows = [
  ...Object.keys(margins).map((method) => ({ margin: method, options: presetOf(method) })),
  { margin: 'mvsoftmax, arc', options: presetOf('mvsoftmax', { variant: 'arc', margin: 0.5 }) },
  { margin: 'curricularface, t 0.3', options: presetOf('curricularface', { t: 0.3, tRate: 0 }) },
  { margin: 'elasticface, plus', options: presetOf('elasticface', { plus: 'paper' }) },
  { margin: 'arcface, filter', options: presetOf('arcface', { negatives: filteredNegatives() }) },
  { margin: 'arcface, label smoothing', options: presetOf('arcface', { labelSmoothing: 0.1 }) },
  { margin: 'arcface, learned scale', options: presetOf('arcface', { scale: learnedScale() }) },
];

export function run({ record, smoke, only }) {
  const [N, D, C, rounds] = smoke ? [8, 32, 400, 3] : [128, 512, only.C ?? 100_000, 9];
  const threads = only.threads ?? 1;
  setNumThreads(threads);
  const x = features(N, D);
  const initial = weights(C * D);
  const timed = ({ head, y }) => {
    const began = performance.now();
    head.stepSync(x, y, { lr: 1e-6 });
    return performance.now() - began;
  };
  const start = (margin) => {
    const K = margin.subCenters ?? 1;
    const numClasses = Math.floor(C / K); // as many rows of the weight for every margin
    const head = new MarginHead({ numClasses, embeddingSize: D, margin, onAdvice: () => {} });
    head.weight.set(initial.subarray(0, head.weight.size));
    const y = labels(N, numClasses);
    timed({ head, y });
    return { head, y };
  };
  const arcface = start(presetOf('arcface'));
  for (const { margin, options } of rows) {
    if (margin === 'arcface') continue;
    const other = start(options);
    const pairs = Array.from({ length: rounds }, () => [timed(arcface), timed(other)]);
    other.head.dispose();
    const times = pairs.map(([, ms]) => ms);
    record({
      bench: 'margins',
      margin,
      N,
      D,
      C,
      K: options.subCenters ?? 1,
      threads,
      rounds,
      ms: median(times),
      min: Math.min(...times),
      max: Math.max(...times),
      arcfaceMs: median(pairs.map(([ms]) => ms)),
      perArcface: median(pairs.map(([base, ms]) => ms / base)),
    });
  }
  arcface.head.dispose();
}
