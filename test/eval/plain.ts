import { dot } from '../../lib/eval/embeddings.js';
import type { Nearest } from '../../lib/eval/identification.js';
import type { CountPairs } from '../../lib/eval/pairs.js';

/** The addon's pair histograms, written plainly. */
export const plainHistograms: CountPairs = (embeddings, labels, dim, bins) => {
  const genuine = new Float64Array(bins);
  const impostor = new Float64Array(bins);
  for (let i = 0; i < labels.length; i++) {
    for (let j = i + 1; j < labels.length; j++) {
      const cos = Math.max(-1, Math.min(1, dot(embeddings, i, embeddings, j, dim)));
      const bin = Math.min(bins - 1, Math.floor(((cos + 1) / 2) * bins));
      (labels[i] === labels[j] ? genuine : impostor)[bin]++;
    }
  }
  return { genuine, impostor };
};

/** The addon's exact search, written plainly. */
export const plainNearest: Nearest = (queries, gallery, dim, k) => {
  const found = Array.from({ length: queries.length / dim }, (_, q) =>
    Array.from({ length: gallery.length / dim }, (_, index) => ({ index, score: dot(queries, q, gallery, index, dim) }))
      .sort((a, b) => b.score - a.score)
      .slice(0, k),
  ).flat();
  return {
    index: Int32Array.from(found, ({ index }) => index),
    score: Float32Array.from(found, ({ score }) => score),
  };
};

/** n unit rows around `classes` random directions, with noise of the given size; and their labels. */
export function clusters(n: number, classes: number, dim: number, noise: number, seed = 1) {
  let state = seed;
  const uniform = () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32 - 0.5;
  };
  const centers = Array.from({ length: classes * dim }, uniform);
  const embeddings = new Float32Array(n * dim);
  const labels = Int32Array.from({ length: n }, (_, row) => row % classes);
  for (let row = 0; row < n; row++) {
    const values = Array.from({ length: dim }, (_, i) => centers[labels[row] * dim + i] + noise * uniform());
    const norm = Math.hypot(...values);
    embeddings.set(
      values.map((value) => value / norm),
      row * dim,
    );
  }
  return { embeddings, labels };
}
