// Images a second of a network with a margin head on a device: forward, backward and update of both; a JSON line.
//   node bench/gpu/backbone.mjs [--device cuda] [--net iresnet50] [--batch 256] [--classes 1000000] [--steps 10] [--rounds 2]
//     [--precision bfloat16] [--net-precision bfloat16]: of the head, and of the network
// Batches and labels wait in the device's memory and take turns; a step's time runs to the loss on the host.
import { parseArgs } from 'node:util';
import { backward, keep, MarginHead, nn, ops, optim, Random, tensor, tidy } from 'flashmargin';
import { unavailable } from './unavailable.mjs';

const { values } = parseArgs({
  options: {
    device: { type: 'string', default: 'cuda' },
    net: { type: 'string', default: 'iresnet50' },
    side: { type: 'string', default: '112' },
    batch: { type: 'string', default: '256' },
    classes: { type: 'string', default: '1000000' },
    steps: { type: 'string', default: '10' },
    rounds: { type: 'string', default: '2' },
    precision: { type: 'string', default: 'bfloat16' },
    'net-precision': { type: 'string', default: 'bfloat16' },
  },
});
const { device, net: name, precision, 'net-precision': netPrecision } = values;
const [side, N, C, steps, rounds] = ['side', 'batch', 'classes', 'steps', 'rounds'].map((key) => Number(values[key]));
const BATCHES = 4;
/** What chooses who convolves, and how. */
const settings = Object.fromEntries(
  ['OPS', 'TF32', 'HEAD'].flatMap((name) => {
    const value = process.env[`FLASHMARGIN_CUDA_${name}`];
    return value ? [[name.toLowerCase(), value]] : [];
  }),
);

const rng = new Random(1);
/** A million centers by Box and Muller would take half a minute: normal numbers from a table. */
const normals = Float32Array.from({ length: 1 << 16 }, () => rng.normal());
let drawn = 1;
Random.prototype.normal = () => {
  drawn = (Math.imul(drawn, 1664525) + 1013904223) | 0;
  return normals[drawn >>> 16];
};
const pool = Uint8Array.from({ length: 999_983 }, () => rng.uint32());
const bytes = (n) => {
  const out = new Uint8Array(n);
  for (let first = 0; first < n; first += pool.length) out.set(pool.subarray(0, n - first), first);
  return out;
};

function run() {
  const net = nn[name]({ device, imageSize: side, channels: 3, precision: netPrecision });
  const head = new MarginHead({
    numClasses: C,
    embeddingSize: net.embeddingSize,
    device,
    precision,
    onAdvice: () => {},
  });
  const sgd = new optim.Sgd(net.namedParameters(), { momentum: 0.9, weightDecay: 5e-4 });
  const labels = () => Int32Array.from({ length: N }, () => rng.uint32() % C);
  const batches = Array.from({ length: BATCHES }, () => ({
    pixels: keep(tensor(bytes(N * side * side * 3), [N, side, side, 3], device)),
    labels: keep(tensor(labels(), [N], device)),
  }));
  let turn = 0;
  const step = () => {
    const { pixels, labels } = batches[turn++ % BATCHES];
    const began = performance.now();
    tidy(() => {
      const features = net.forward(ops.imageToFloat(pixels));
      const { loss, gradEmbeddings } = head.stepSync(features, labels, { lr: 1e-3 });
      if (!Number.isFinite(loss)) throw new Error(`the loss is ${loss}`);
      backward(features, gradEmbeddings);
      sgd.step(1e-3);
    });
    return performance.now() - began;
  };
  for (let i = 0; i < 3; i++) step();
  const times = Array.from({ length: rounds }, () => Array.from({ length: steps }, step));
  const median = (list) => list.toSorted((a, b) => a - b)[list.length >> 1];
  const ms = median(times.flat());
  console.log(
    JSON.stringify({
      bench: 'gpu-backbone',
      peer: 'ours',
      device,
      net: name,
      precision,
      netPrecision,
      settings,
      N,
      C,
      ms,
      min: Math.min(...times.flat()),
      max: Math.max(...times.flat()),
      roundMs: times.map(median),
      steps: steps * rounds,
      imagesPerSecond: (1000 * N) / ms,
    }),
  );
}

try {
  run();
} catch (error) {
  unavailable(error);
  throw error;
}
