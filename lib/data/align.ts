/**
 * Alignment by five points: eyes, nose and the corners of the mouth, in the order left to right, top to bottom, (x, y)
 * each, are moved onto a template by a similarity: a rotation, one scale and a shift, never a reflection (Umeyama 1991).
 */
import { checkLists, checkObject, expected, ShapeError } from '../errors.js';
import { dataError } from './dataError.js';

/** Where the five points of an aligned face are, by width x height: [10], x and y of each. */
export const alignmentTemplates = {
  /** insightface, AdaFace. */
  '112x112': template(0),
  /** insightface, for pictures that are a multiple of 128 wide. */
  '128x128': template(8),
  /** SphereFace, CosFace. */
  '96x112': template(-8),
} as const;

/** The published positions for 112 x 112, moved. */
function template(shiftX: number): Float64Array {
  const at112 = [38.2946, 51.6963, 73.5318, 51.5014, 56.0252, 71.7366, 41.5493, 92.3655, 70.7299, 92.2041];
  return Float64Array.from(at112, (value, i) => (i % 2 === 0 ? value + shiftX : value));
}

/**
 * The similarity that moves points nearest to others, in the sum of squares: [6], the rows of the matrix [A | t] with
 * to ≈ A·from + t.  Points are x, y, x, y, …
 *
 * With both centered and a = Σ⟨from, to⟩, b = Σ from × to, the best rotation has the direction (a, b), and the best
 * scale with it is √(a² + b²)/Σ‖from‖²; A = [a −b; b a]/Σ‖from‖².
 *
 * @example
 * const matrix = similarityTransform(landmarks, alignmentTemplates['112x112']);
 */
export function similarityTransform(from: ArrayLike<number>, to: ArrayLike<number>): Float64Array {
  checkLists('similarityTransform', { from, to });
  if (from.length !== to.length || from.length < 4 || from.length % 2 !== 0) {
    throw new ShapeError(
      `similarityTransform: expected as many points from as to, two or more, x and y of each, got ${from.length} and ${to.length} numbers`,
      { code: 'ERR_FM_SHAPE' },
    );
  }
  const n = from.length / 2;
  const center = (points: ArrayLike<number>, axis: number) =>
    Array.from({ length: n }, (_, i) => points[2 * i + axis]).reduce((sum, value) => sum + value, 0) / n;
  const [fx, fy, tx, ty] = [center(from, 0), center(from, 1), center(to, 0), center(to, 1)];
  let [a, b, size, target] = [0, 0, 0, 0];
  for (let i = 0; i < n; i++) {
    const [x, y, u, v] = [from[2 * i] - fx, from[2 * i + 1] - fy, to[2 * i] - tx, to[2 * i + 1] - ty];
    a += x * u + y * v;
    b += x * v - y * u;
    size += x * x + y * y;
    target += u * u + v * v;
  }
  const numbers = Number.isFinite(size + target + fx + fy);
  if (!numbers) throw dataError('similarityTransform: expected finite points');
  // Centers are rounded, so points that are all the same are not exactly 0 from theirs.
  const spread = (squares: number, x: number, y: number) => squares > 1e-12 * n * (x * x + y * y);
  if (!spread(size, fx, fy) || !spread(target, tx, ty)) {
    throw dataError('similarityTransform: expected points of which two differ, got one place');
  }
  // Mirrored about a line through their center, points have no nearest rotation: a = b = 0.
  if (!(Math.hypot(a, b) > 1e-12 * Math.sqrt(size * target))) {
    throw dataError('similarityTransform: expected points that a rotation can bring nearer, got a mirror image');
  }
  const [c, s] = [a / size, b / size];
  return Float64Array.of(c, -s, tx - c * fx + s * fy, s, c, ty - s * fx - c * fy);
}

/** A picture's pixels, [height, width, channels]. */
export interface Pixels {
  readonly data: Uint8Array;
  readonly height: number;
  readonly width: number;
  readonly channels: number;
}

/**
 * A picture under a similarity (or any affine map) of its coordinates, bilinear, black outside.
 *
 * @example
 * const matrix = similarityTransform(landmarks, alignmentTemplates['112x112']);
 * const face = warpAffine(picture, matrix, { width: 112, height: 112 });
 */
export function warpAffine(
  picture: Pixels,
  matrix: ArrayLike<number>,
  out: { readonly width: number; readonly height: number },
): Pixels {
  checkObject('warpAffine', 'a picture, { data, height, width, channels }', picture);
  const { data, height, width, channels } = picture;
  checkLists('warpAffine', { 'picture.data': data, matrix });
  const size = (n: unknown) => Number.isSafeInteger(n) && (n as number) >= 1;
  expected(size(out?.width) && size(out?.height), 'warpAffine', 'the width and height of the result', out);
  if (data.length !== height * width * channels) {
    throw new ShapeError(
      `warpAffine: expected ${height * width * channels} bytes for [${height}, ${width}, ${channels}], got ${data.length}`,
      { code: 'ERR_FM_SHAPE' },
    );
  }
  const finite = matrix.length === 6 && Array.from(matrix).every(Number.isFinite);
  expected(finite, 'warpAffine', 'a matrix of six finite numbers, as similarityTransform() returns it', matrix);
  const [a, b, tx, c, d, ty] = Array.from(matrix);
  const determinant = a * d - b * c;
  expected(Number.isFinite(determinant) && determinant !== 0, 'warpAffine', 'a matrix with an inverse', matrix);
  const result = new Uint8Array(out.height * out.width * channels);
  const at = (x: number, y: number, channel: number) =>
    x < 0 || y < 0 || x >= width || y >= height ? 0 : data[(y * width + x) * channels + channel];
  for (let row = 0; row < out.height; row++) {
    for (let column = 0; column < out.width; column++) {
      // Where the pixel comes from.
      const [u, v] = [column - tx, row - ty];
      const [x, y] = [(d * u - b * v) / determinant, (a * v - c * u) / determinant];
      const [left, top] = [Math.floor(x), Math.floor(y)];
      const [right, down] = [x - left, y - top];
      for (let k = 0; k < channels; k++) {
        const above = at(left, top, k) * (1 - right) + at(left + 1, top, k) * right;
        const below = at(left, top + 1, k) * (1 - right) + at(left + 1, top + 1, k) * right;
        result[(row * out.width + column) * channels + k] = Math.round(above * (1 - down) + below * down);
      }
    }
  }
  return { data: result, height: out.height, width: out.width, channels };
}
