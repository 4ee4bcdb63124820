// The data that every peer of a comparison makes for itself, bit for bit the same in each language, and the commands
// that a peer answers on stdin with one JSON line each:
//
//   (at the start)      { ready: true }
//   check               { loss, dFeatures, moved }: the first step, with lr 1e-3; see firstStep
//   time STEPS WARM     { ms: [STEPS values] } after WARM untimed steps; lr 1e-6, so that the task stays what it was
//   memory              { extraMiB }: peak RSS beyond what was there with weights and velocity, before the first step

/** Uniform in [−1, 1) by an index in [0, 2³²). */
function value(index) {
  let x = Math.imul(index, 0x9e3779b1);
  x ^= x >>> 15;
  x = Math.imul(x, 0x85ebca77);
  x ^= x >>> 13;
  return (x >>> 0) * 2 ** -31 - 1;
}

/** [C, D] class centers, `count` values of them from `start`. */
export function weights(count, start = 0) {
  const out = new Float32Array(count);
  for (let i = 0; i < count; i++) out[i] = 0.01 * Math.fround(value(start + i));
  return out;
}

/** [N, D], not normalised. */
export function features(N, D) {
  return Float32Array.from({ length: N * D }, (_, i) => value(i + 0xabcdef01));
}

export function labels(N, C) {
  return Int32Array.from({ length: N }, (_, i) => (i * 7919 + 13) % C);
}

/** What `check` answers: sixteen values of the first row's dX, and of the change of its class center (K = 1). */
export function firstStep(loss, dFeatures, center, label, D) {
  const before = weights(16, label * D);
  return {
    loss,
    dFeatures: Array.from(dFeatures.slice(0, 16)),
    moved: Array.from(before, (old, k) => center[k] - old),
  };
}

/** Largest difference of two `check` answers, relative to the largest value of each part. */
export function disagreement(a, b) {
  const relative = (x, y) => {
    const scale = Math.max(...y.map(Math.abs));
    return Math.max(...x.map((value, i) => Math.abs(value - y[i]))) / scale;
  };
  return {
    loss: relative([a.loss], [b.loss]),
    dFeatures: relative(a.dFeatures, b.dFeatures),
    moved: relative(a.moved, b.moved),
  };
}
