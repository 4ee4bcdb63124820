// One small head step on a device: does the library start, and is there code for this GPU?
//   node bench/gpu/usable.mjs [--device cuda] [--precision float32|bfloat16]
import { parseArgs } from 'node:util';
import { MarginHead, Random } from 'flashmargin';
import { unavailable } from './unavailable.mjs';

const { values } = parseArgs({
  options: { device: { type: 'string', default: 'cuda' }, precision: { type: 'string', default: 'float32' } },
});
const [N, D, C] = [16, 64, 100];
const rng = new Random(1);
const features = Float32Array.from({ length: N * D }, () => rng.normal());
const labels = Int32Array.from({ length: N }, (_, i) => (i * 7) % C);
const lossOn = (device) => {
  const { precision } = values;
  const head = new MarginHead({ numClasses: C, embeddingSize: D, device, precision, onAdvice: () => {} });
  return head.stepSync(features, labels, { lr: 0.1 }).loss;
};

try {
  const [loss, expected] = [lossOn(values.device), lossOn('cpu')];
  console.log(`${values.device}, ${values.precision}: loss ${loss}, on the CPU ${expected}`);
  if (!(Math.abs(loss - expected) < 0.02 * expected)) process.exitCode = 1;
} catch (error) {
  unavailable(error);
  throw error;
}
