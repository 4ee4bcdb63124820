// Head steps of odd shapes on a device, against float64 on the CPU; a step in the same precision on the CPU says what is
// fair.  Ends with "N passed, N failed".
//   node bench/gpu/fuzz.mjs [--device cuda] [--precision float32] [--seconds 10] [--cases 1000] [--largest 3000] [--seed S]
//   … --multiple 8        rows of a multiple of 8
import { parseArgs } from 'node:util';
import { backward, MarginHead, marginSoftmax, margins, parameter, presetOf, Random, tensor, tidy } from 'flashmargin';
import { unavailable } from './unavailable.mjs';

const { values } = parseArgs({
  options: {
    device: { type: 'string', default: 'cuda' },
    precision: { type: 'string', default: 'float32' },
    seconds: { type: 'string', default: '10' },
    cases: { type: 'string', default: '1000' },
    largest: { type: 'string', default: '3000' },
    multiple: { type: 'string', default: '1' },
    seed: { type: 'string', default: String(Date.now() % 1e6) },
  },
});
const { device, precision } = values;
const largest = Number(values.largest);
const bfloat16 = precision === 'bfloat16';
// Where the CPU loses less: a stated floor.  GPU paths also round the gradients of the cosines to bfloat16.
const least = bfloat16 ? { loss: 5e-4, gradient: 4e-3 } : { loss: 1e-6, gradient: 2e-5 };
const SGD = { lr: 0.1, momentum: 0.9, weightDecay: 5e-4 };

const stateless = Object.keys(margins).filter((name) => {
  const head = new MarginHead({ numClasses: 3, embeddingSize: 2, margin: presetOf(name), onAdvice: () => {} });
  const none = head.state.size === 0 && name !== 'elasticface';
  head.dispose();
  return none;
});

function problem(seed) {
  const rng = new Random(seed);
  const below = (n) => Math.floor(rng.uniform() * n);
  const pick = (list) => list[below(list.length)];
  // Tiny, beside a multiple of a tile, or anything.
  const extent = (most) => {
    const near = pick([8, 16, 32, 64, 128, 256]) * (1 + below(3)) + below(3) - 1;
    return Math.max(1, Math.min(Math.floor(most), pick([1 + below(9), near, 1 + below(most)])));
  };
  const multiple = Number(values.multiple);
  const [N, C] = [extent(largest / 10), extent(largest)];
  const D = Math.ceil(extent(largest / 6) / multiple) * multiple;
  const centers = pick([undefined, undefined, 1, 2, 3, 5]);
  const method = pick(stateless);
  const margin = presetOf(method, { subCenters: centers });
  const K = margin.subCenters ?? 1;
  const normal = (n, size) => Float32Array.from({ length: n }, () => size * rng.normal());
  const weight = normal(C * K * D, 0.05);
  const features = normal(N * D, 1);
  const labels = Int32Array.from({ length: N }, () => (rng.uniform() < 0.1 ? -1 : below(C)));
  // A third leans on its class, some lean away from it.
  labels.forEach((label, i) => {
    const lean = pick([0, 0, 0, 40, -20]);
    const row = (label * K + below(K)) * D;
    if (label >= 0) for (let d = 0; d < D; d++) features[i * D + d] += lean * weight[row + d];
  });
  const velocity = normal(weight.length, 0.1);
  return { seed, N, D, C, K, method, margin, weight, features, labels, velocity };
}

function exact({ N, D, C, K, margin, weight, features, labels }) {
  return tidy(() => {
    const x = parameter(tensor(Float64Array.from(features), [N, D]));
    const w = parameter(tensor(Float64Array.from(weight), [C * K, D]));
    try {
      const { loss } = marginSoftmax(x, w, labels, margin);
      backward(loss);
      const zero = (of) => of.grad?.toArray() ?? new Float64Array(of.size);
      return { loss: loss.item(), dFeatures: zero(x), dWeight: zero(w) };
    } finally {
      for (const each of [x, w]) {
        each.grad?.dispose();
        each.dispose();
      }
    }
  });
}

function stepOn(where, { D, C, margin, weight, features, labels, velocity }) {
  const head = new MarginHead({
    numClasses: C,
    embeddingSize: D,
    margin,
    device: where,
    precision,
    onAdvice: () => {},
  });
  try {
    head.weight.set(weight);
    head.velocity.set(velocity);
    const { loss, gradEmbeddings } = head.stepSync(features, labels, SGD);
    return { loss, dFeatures: gradEmbeddings, weight: head.weight.toArray(), velocity: head.velocity.toArray() };
  } finally {
    head.dispose();
  }
}

/** The largest ‖aᵢ − bᵢ‖ over the largest ‖bᵢ‖ of rows. */
function rowError(a, b, D) {
  let [error, size] = [0, 1e-12];
  for (let first = 0; first < b.length; first += D) {
    let [difference, norm] = [0, 0];
    for (let d = first; d < first + D; d++) {
      difference += (a[d] - b[d]) ** 2;
      norm += b[d] ** 2;
    }
    if (!(difference <= error)) error = Number.isNaN(difference) ? Number.POSITIVE_INFINITY : difference;
    size = Math.max(size, norm);
  }
  return Math.sqrt(error / size);
}

function errorsOf(got, wanted, { D, weight, velocity }) {
  const { momentum, weightDecay, lr } = SGD;
  const gradient = Float64Array.from(got.velocity, (v, i) => v - momentum * velocity[i] - weightDecay * weight[i]);
  const moved = Float64Array.from(got.velocity, (v, i) => weight[i] - lr * v);
  return {
    loss: Math.abs(got.loss - wanted.loss),
    dFeatures: rowError(got.dFeatures, wanted.dFeatures, D),
    dWeight: rowError(gradient, wanted.dWeight, D),
    weight: rowError(got.weight, moved, D),
  };
}

const counts = { passed: 0, failed: 0 };
const stop = Date.now() + 1000 * Number(values.seconds);
for (let i = 0; i < Number(values.cases) && Date.now() < stop; i++) {
  const q = problem(Number(values.seed) + i);
  const wanted = exact(q);
  const scale = typeof q.margin.scale === 'number' ? q.margin.scale : 64;
  const steep = Math.max(1, scale / 64);
  const floors = { loss: least.loss * scale, dFeatures: least.gradient * steep, dWeight: least.gradient * steep };
  let got;
  let again;
  try {
    got = stepOn(device, q);
    again = stepOn(device, q);
  } catch (error) {
    if (i === 0) unavailable(error);
    throw error;
  }
  const errors = errorsOf(got, wanted, q);
  const fair = errorsOf(stepOn('cpu', q), wanted, q);
  const allowed = Object.fromEntries(
    Object.keys(errors).map((key) => [key, key === 'weight' ? 1e-6 : Math.max(2 * fair[key], floors[key])]),
  );
  const beyond = Object.keys(errors).filter((key) => !(errors[key] <= allowed[key]));
  const same = ['dFeatures', 'weight', 'velocity'].every(
    (key) => Buffer.compare(bytes(got[key]), bytes(again[key])) === 0,
  );
  const ok = beyond.length === 0 && same && got.loss === again.loss;
  counts[ok ? 'passed' : 'failed']++;
  if (ok) continue;
  const what = beyond.map(
    (key) => `${key} is off by ${errors[key].toExponential(1)}, at most ${allowed[key].toExponential(1)}`,
  );
  if (!same) what.push('two runs differ');
  const shape = `N=${q.N} D=${q.D} C=${q.C} K=${q.K}`;
  console.log(`FAILED: seed ${q.seed}, ${q.method} ${shape} ${precision}: ${what.join('; ')}`);
}

function bytes(array) {
  return Buffer.from(array.buffer, array.byteOffset, array.byteLength);
}

console.log(`seed ${values.seed}: ${counts.passed} passed, ${counts.failed} failed`);
process.exitCode = counts.failed > 0 || counts.passed === 0 ? 1 : 0;
