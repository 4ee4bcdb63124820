// tfjs with one of its engines that run in Node without a native library, and the head as its operations express it:
// it has no gradient for gatherND, so that the target is picked by one-hot masks of [N, C].
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';

const require = createRequire(new URL('../optional/package.json', import.meta.url));

/** Why there is no tfjs, or undefined where there is. */
export function tfjsMissing() {
  return existsSync(new URL('../optional/node_modules/@tensorflow/tfjs', import.meta.url))
    ? undefined
    : 'tfjs is not installed: npm ci --prefix bench/optional --ignore-scripts';
}

export const tfjsVersion = () => `tfjs ${require('@tensorflow/tfjs/package.json').version}`;

/** 'cpu' is plain JavaScript, 'wasm' has SIMD and, in Node, one thread. */
export async function loadTfjs(engine) {
  const tf = require('@tensorflow/tfjs');
  tf.env().set('PROD', true);
  if (engine === 'wasm') {
    const wasm = require('@tensorflow/tfjs-backend-wasm');
    wasm.setWasmPaths(`${path.dirname(require.resolve('@tensorflow/tfjs-backend-wasm'))}/`);
  }
  await tf.setBackend(engine);
  await tf.ready();
  return tf;
}

export const normalize = (tf, x) => tf.div(x, tf.sqrt(tf.sum(tf.square(x), 1, true)));

export const cosines = (tf, x, w) => tf.matMul(normalize(tf, x), normalize(tf, w), false, true);

const column = (tf, values, mask) => tf.sum(tf.mul(values, mask), 1, true);

/** φ = cos(θ + m) without a look past π − m, in the label's column; no acos is needed. */
function arcfacePhi(tf, cos, mask, margin) {
  const target = tf.clipByValue(column(tf, cos, mask), -1 + 1e-6, 1 - 1e-6);
  const sine = tf.sqrt(tf.sub(1, tf.square(target)));
  return { target, phi: tf.sub(tf.mul(target, Math.cos(margin)), tf.mul(sine, Math.sin(margin))) };
}

/** Cosines with ArcFace's margin in the label's column. */
export function arcfaceCosines(tf, cos, mask, margin) {
  const { target, phi } = arcfacePhi(tf, cos, mask, margin);
  return tf.add(cos, tf.mul(mask, tf.sub(phi, target)));
}

/** tfjs has no gradient for a comparison, not even 0. */
const above = (tf, a, b) =>
  tf.customGrad((x, y) => ({ value: tf.greater(x, y), gradFunc: () => [tf.zerosLike(x), tf.zerosLike(y)] }))(a, b);

/** CurricularFace's hard negatives: one above the target's φ becomes cos·(t + cos). */
export function curricularCosines(tf, cos, mask, margin, t) {
  const { phi } = arcfacePhi(tf, cos, mask, margin);
  const reweighted = tf.where(above(tf, cos, phi), tf.mul(cos, tf.add(cos, t)), cos);
  return tf.add(tf.mul(reweighted, tf.sub(1, mask)), tf.mul(cos, mask));
}

/** The labels' columns of [N, C]. */
export const oneHot = (tf, labels, { shape: [, C] }) => tf.oneHot(labels, C).toFloat();

export const subCenterMax = (tf, cos, K) => tf.max(tf.reshape(cos, [cos.shape[0], cos.shape[1] / K, K]), 2);

/** The mean over the rows. */
export const crossEntropy = (tf, logits, mask) =>
  tf.mean(tf.sub(tf.logSumExp(logits, 1), tf.sum(tf.mul(logits, mask), 1)));

export function arcfaceLoss(tf, x, w, labels, { scale, margin }) {
  return tf.tidy(() => {
    const cos = cosines(tf, x, w);
    const mask = oneHot(tf, labels, cos);
    const logits = tf.mul(arcfaceCosines(tf, cos, mask, margin), scale);
    return crossEntropy(tf, logits, mask).asScalar();
  });
}

/** Class centers with ArcFace and SGD: step(lr) gives the loss and dLoss/dX, both as plain numbers. */
export function arcfaceHead(tf, weights, features, labels, { N, C, D }) {
  const w = tf.variable(tf.tensor2d(weights, [C, D]));
  const x = tf.tensor2d(features, [N, D]);
  const y = tf.tensor1d(labels, 'int32');
  let velocity = tf.zerosLike(w);
  const loss = (x, w) => arcfaceLoss(tf, x, w, y, { scale: 64, margin: 0.5 });
  const gradients = tf.valueAndGrads(loss);
  return {
    weight: w,
    step(lr) {
      const {
        value,
        grads: [dx, dw],
      } = gradients([x, w]);
      const next = tf.tidy(() => tf.add(tf.mul(velocity, 0.9), tf.add(dw, tf.mul(w, 5e-4))));
      velocity.dispose();
      velocity = next;
      tf.tidy(() => w.assign(tf.sub(w, tf.mul(velocity, lr))));
      const result = { loss: value.dataSync()[0], dFeatures: dx.dataSync() };
      for (const each of [value, dx, dw]) each.dispose();
      return result;
    },
    dispose: () => tf.dispose([w, x, y, velocity]),
  };
}
