// Micro-benchmarks against pure tfjs by benchmark.js, one thread each: single operations with their gradients, and the
// head's whole step.  Both sides must agree on the first run.
import Benchmark from 'benchmark';
import { backward, MarginHead, ops, parameter, setNumThreads, tensor, tidy } from 'flashmargin';
import { median } from '../alternate.mjs';
import { cases, make } from '../micro/ops.mjs';
import { arcfaceHead, loadTfjs, tfjsMissing } from '../micro/tfjs.mjs';

/** Largest difference that counts as agreement, relative to the largest value of an output. */
const TOLERANCE = 1e-4;

const engines = [
  { engine: 'wasm', shape: { N: 64, D: 512, C: 10_000 } },
  { engine: 'cpu', shape: { N: 64, D: 512, C: 2000 } }, // 5 s a step at 10,000 classes
];

function difference(ours, theirs) {
  let scale = 0;
  let largest = 0;
  for (let i = 0; i < theirs.length; i++) {
    scale = Math.max(scale, Math.abs(theirs[i]));
    largest = Math.max(largest, Math.abs(ours[i] - theirs[i]));
  }
  return ours.length === theirs.length ? largest / scale : Number.POSITIVE_INFINITY;
}

/** The values of one run, or nothing: `read` copies them out. */
function oursOf({ inputs, ours }, data, dy) {
  const xs = inputs.map((name) => parameter(tensor(data[name].data, data[name].shape)));
  const context = { y: data.labels };
  return {
    run(read = false) {
      return tidy(() => {
        const y = ours(...xs, context);
        const value = read && y.toArray();
        backward(y, dy && tensor(dy, y.shape));
        const values = read ? [value, ...xs.map((x) => x.grad.toArray())] : undefined;
        for (const x of xs) {
          x.grad.dispose();
          x.grad = undefined;
        }
        return values;
      });
    },
    dispose: () => xs.forEach((x) => x.dispose()),
  };
}

function theirsOf({ inputs, theirs }, tf, data, dy) {
  const xs = inputs.map((name) => tf.tensor(data[name].data, data[name].shape));
  const y = tf.tensor1d(data.labels, 'int32');
  const f = (...args) => theirs(tf, ...args, { y });
  const gradients = tf.grads(f);
  return {
    run(read = false) {
      return tf.tidy(() => {
        const made = gradients(xs, dy && tf.tensor(dy, outputShape(tf, f, xs)));
        return read ? [f(...xs), ...made].map((each) => each.dataSync()) : undefined;
      });
    },
    dispose: () => tf.dispose([...xs, y]),
  };
}
const outputShape = (tf, f, xs) => tf.tidy(() => f(...xs).shape);

/** Runs both by benchmark.js; milliseconds of every sample. */
function race(name, sides, { maxTime, minSamples }) {
  const suite = new Benchmark.Suite(name);
  for (const [side, run] of Object.entries(sides)) suite.add(side, run, { maxTime, minSamples, initCount: 1 });
  suite.run({ async: false });
  return Object.fromEntries(
    suite.map((bench) => {
      if (bench.error) throw bench.error;
      const { sample, rme } = bench.stats;
      return [bench.name, { ms: 1e3 * median(sample), rme, samples: sample.length }];
    }),
  );
}

function compare({ op, ours, theirs, record, settings, base }) {
  const [mine, yours] = [ours.run(true), theirs.run(true)];
  const differences = mine.map((values, i) => difference(values, yours[i]));
  const largest = Math.max(...differences);
  if (!(largest <= TOLERANCE)) {
    throw new Error(`micro, ${op}: the outputs differ by ${differences.join(', ')}, more than ${TOLERANCE}`);
  }
  const found = race(op, { ours: () => ours.run(), theirs: () => theirs.run() }, settings);
  ours.dispose();
  theirs.dispose();
  record({
    bench: 'micro',
    op,
    ...base,
    ms: found.ours.ms,
    rme: found.ours.rme,
    samples: found.ours.samples,
    theirMs: found.theirs.ms,
    theirRme: found.theirs.rme,
    theirSamples: found.theirs.samples,
    ratio: found.theirs.ms / found.ours.ms,
    agreement: largest,
    tolerance: TOLERANCE,
  });
}

/** The whole step: loss, dX, the moved weights. */
function heads(tf, data, { N, D, C }) {
  const head = new MarginHead({ numClasses: C, embeddingSize: D, onAdvice: () => {} });
  head.weight.set(data.weight.data);
  const x = data.features.data;
  const theirs = arcfaceHead(tf, data.weight.data, x, data.labels, { N, C, D });
  const moved = (after) => after.map((value, i) => value - data.weight.data[i]);
  return {
    ours: {
      run(read = false) {
        const { loss, gradEmbeddings } = head.stepSync(x, data.labels, { lr: read ? 1e-3 : 1e-6 });
        return read ? [[loss], gradEmbeddings, moved(head.weight.toArray())] : undefined;
      },
      dispose: () => head.dispose(),
    },
    theirs: {
      run(read = false) {
        const { loss, dFeatures } = theirs.step(read ? 1e-3 : 1e-6);
        return read ? [[loss], dFeatures, moved(theirs.weight.dataSync())] : undefined;
      },
      dispose: () => theirs.dispose(),
    },
  };
}

export async function run({ record, say, smoke }) {
  const why = tfjsMissing();
  if (why) return say(`micro: ${why}`);
  setNumThreads(1);
  const settings = smoke ? { maxTime: 0.02, minSamples: 1 } : { maxTime: 2, minSamples: 5 };
  for (const { engine, shape } of engines) {
    const tf = await loadTfjs(engine);
    const size = smoke ? { N: 8, D: 32, C: 300 } : shape;
    const data = make(size);
    const base = { peer: `tfjs ${engine}`, ...size, threads: 1 };
    for (const each of cases) {
      if (!(each.op in ops)) {
        say(`micro: there is no ops.${each.op}`);
        continue;
      }
      const dy = each.dy?.(size, data);
      const [ours, theirs] = [oursOf(each, data, dy), theirsOf(each, tf, data, dy)];
      compare({ op: each.op, ours, theirs, record, settings, base });
    }
    compare({ op: 'head step', ...heads(tf, data, size), record, settings, base });
  }
}
