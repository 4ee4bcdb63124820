// The head in pure tfjs:  node --expose-gc tfjs.mjs wasm|cpu N D C
import { features, firstStep, labels, weights } from '../data.mjs';
import { arcfaceHead, loadTfjs } from '../micro/tfjs.mjs';
import { serve } from './serve.mjs';

const engine = process.argv[2];
const [N, D, C] = process.argv.slice(3, 6).map(Number);
const tf = await loadTfjs(engine);
const y = labels(N, C);
const head = arcfaceHead(tf, weights(C * D), features(N, D), y, { N, C, D });

await serve({
  step: (lr) => head.step(lr),
  check() {
    const { loss, dFeatures } = head.step(1e-3);
    const center = tf.tidy(() => tf.slice(head.weight, [y[0], 0], [1, D]).dataSync());
    return firstStep(loss, dFeatures, center, y[0], D);
  },
});
