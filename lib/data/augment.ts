import { checkOptions, expected } from '../errors.js';
import { type KeyedRandom, Purpose } from './keyedRandom.js';

/** Random changes of training images. All are off unless named. */
export interface AugmentOptions {
  /** Each image moves by its own whole number of pixels in [−shift, shift], in x and in y. */
  readonly shift?: number;
  /** Mirrors left and right, with probability ½. */
  readonly flip?: boolean;
  /** Adds N(0, std²), std in [0, 1], to each entry of the 2×2 identity and resamples about the centre, bilinearly. */
  readonly affine?: { readonly std: number; readonly probability: number };
  /** What lies outside the image: its nearest edge pixel, or a value in [0, 255]. Default `'replicate'`. */
  readonly border?: 'replicate' | number;
}

/** Where an output pixel is read: source = matrix · (output − centre) + centre + shift. */
export interface Placement {
  dx: number;
  dy: number;
  flip: boolean;
  /** Row-major 2×2, or undefined where the image is only moved by whole pixels. */
  matrix: readonly [number, number, number, number] | undefined;
}

/** where: what holds the options, by the name that the caller knows. */
export function checkAugment(options: AugmentOptions, [height, width]: readonly number[], where = 'augment'): void {
  checkOptions('BatchLoader', options, ['shift', 'flip', 'affine', 'border'], where);
  const { shift = 0, flip = false, affine, border = 'replicate' } = options;
  expected(typeof flip === 'boolean', `${where}.flip`, 'true or false', flip);
  const side = Math.min(height as number, width as number);
  const within = Number.isInteger(shift) && shift >= 0 && shift < side;
  expected(within, `${where}.shift`, `a whole number of pixels in [0, ${side}), the side of the images`, shift);
  if (affine !== undefined) {
    checkOptions('BatchLoader', affine, ['std', 'probability'], `${where}.affine`);
    const { std, probability } = affine;
    // Beyond 1 the map is more noise than identity.
    const share = (x: unknown) => typeof x === 'number' && x >= 0 && x <= 1;
    expected(share(std), `${where}.affine.std`, 'a number in [0, 1]', std);
    expected(share(probability), `${where}.affine.probability`, 'a number in [0, 1]', probability);
  }
  expected(
    border === 'replicate' || (typeof border === 'number' && border >= 0 && border <= 255),
    `${where}.border`,
    "'replicate' or a value in [0, 255]",
    border,
  );
}

/** Draws what happens to the image at one position of one epoch; the same draw for the same arguments. */
export function drawPlacement(
  options: AugmentOptions,
  random: KeyedRandom,
  seed: number,
  epoch: number,
  position: number,
): Placement {
  const { shift = 0, flip = false, affine } = options;
  random.reset(seed, Purpose.augment, epoch, position);
  const dx = random.below(2 * shift + 1) - shift;
  const dy = random.below(2 * shift + 1) - shift;
  const mirrored = random.below(2) === 1 && flip;
  if (affine === undefined || random.uniform() >= affine.probability)
    return { dx, dy, flip: mirrored, matrix: undefined };
  const around = (center: number) => center + affine.std * random.normal();
  return { dx, dy, flip: mirrored, matrix: [around(1), around(0), around(0), around(1)] };
}

/** Writes the placed image; `source` and `out` are [height, width, channels] from their offsets, and differ. */
export function placeImage(
  source: Uint8Array,
  sourceStart: number,
  out: Uint8Array,
  outStart: number,
  shape: readonly [height: number, width: number, channels: number],
  placement: Placement,
  border: 'replicate' | number = 'replicate',
): void {
  if (placement.matrix === undefined) moveImage(source, sourceStart, out, outStart, shape, placement, border);
  else warpImage(source, sourceStart, out, outStart, shape, placement, placement.matrix, border);
}

function moveImage(
  source: Uint8Array,
  sourceStart: number,
  out: Uint8Array,
  outStart: number,
  [height, width, channels]: readonly [number, number, number],
  { dx, dy, flip }: Placement,
  border: 'replicate' | number,
): void {
  const stride = width * channels;
  const columns = Int32Array.from({ length: width }, (_, x) => inside((flip ? width - 1 - x : x) + dx, width, border));
  // Without a flip, output columns [first, last) lie side by side in the source too.
  const first = flip ? width : Math.min(width, Math.max(0, -dx));
  const last = flip ? width : Math.max(first, Math.min(width, width - dx));
  for (let y = 0; y < height; y++) {
    const row = inside(y + dy, height, border);
    const to = outStart + y * stride;
    if (row < 0) {
      out.fill(border as number, to, to + stride);
      continue;
    }
    const from = sourceStart + row * stride;
    copyPixels(source, from, out, to, columns, 0, first, channels, border);
    if (last > first) {
      out.set(source.subarray(from + (first + dx) * channels, from + (last + dx) * channels), to + first * channels);
    }
    copyPixels(source, from, out, to, columns, last, width, channels, border);
  }
}

/** Output columns [begin, end) of one row, pixel by pixel; a column of -1 takes the border's value. */
function copyPixels(
  source: Uint8Array,
  from: number,
  out: Uint8Array,
  to: number,
  columns: Int32Array,
  begin: number,
  end: number,
  channels: number,
  border: 'replicate' | number,
): void {
  for (let x = begin, at = to + begin * channels; x < end; x++) {
    const column = columns[x];
    if (column < 0) {
      for (let c = 0; c < channels; c++) out[at++] = border as number;
    } else if (channels === 3) {
      const pixel = from + column * 3;
      out[at] = source[pixel];
      out[at + 1] = source[pixel + 1];
      out[at + 2] = source[pixel + 2];
      at += 3;
    } else {
      const pixel = from + column * channels;
      for (let c = 0; c < channels; c++) out[at++] = source[pixel + c];
    }
  }
}

/** The source coordinate, or -1 where the border's value is to be taken. */
function inside(at: number, size: number, border: 'replicate' | number): number {
  if (at >= 0 && at < size) return at;
  if (border !== 'replicate') return -1;
  return at < 0 ? 0 : size - 1;
}

function warpImage(
  source: Uint8Array,
  sourceStart: number,
  out: Uint8Array,
  outStart: number,
  [height, width, channels]: readonly [number, number, number],
  { dx, dy, flip }: Placement,
  [a, b, c, d]: readonly [number, number, number, number],
  border: 'replicate' | number,
): void {
  const centerX = (width - 1) / 2;
  const centerY = (height - 1) / 2;
  const fill = border === 'replicate' ? -1 : border;
  const stride = width * channels;
  let to = outStart;
  for (let y = 0; y < height; y++) {
    const v = y - centerY;
    for (let x = 0; x < width; x++) {
      const u = flip ? centerX - x : x - centerX;
      let sx = a * u + b * v + centerX + dx;
      let sy = c * u + d * v + centerY + dy;
      if (fill < 0) {
        sx = Math.max(0, Math.min(width - 1, sx));
        sy = Math.max(0, Math.min(height - 1, sy));
      }
      const x0 = Math.floor(sx);
      const y0 = Math.floor(sy);
      const fx = sx - x0;
      const fy = sy - y0;
      if (x0 >= 0 && y0 >= 0 && x0 + 1 < width && y0 + 1 < height) {
        let at = sourceStart + y0 * stride + x0 * channels;
        for (let k = 0; k < channels; k++, at++) {
          const top = source[at] + fx * (source[at + channels] - source[at]);
          const below = source[at + stride] + fx * (source[at + stride + channels] - source[at + stride]);
          out[to++] = top + fy * (below - top) + 0.5;
        }
      } else {
        const tap = (row: number, column: number, k: number): number => {
          if (row < 0 || column < 0 || row >= height || column >= width) {
            if (fill >= 0) return fill;
            row = row >= height ? height - 1 : row;
            column = column >= width ? width - 1 : column;
          }
          return source[sourceStart + row * stride + column * channels + k];
        };
        for (let k = 0; k < channels; k++) {
          const top = tap(y0, x0, k) * (1 - fx) + tap(y0, x0 + 1, k) * fx;
          const below = tap(y0 + 1, x0, k) * (1 - fx) + tap(y0 + 1, x0 + 1, k) * fx;
          out[to++] = top + fy * (below - top) + 0.5;
        }
      }
    }
  }
}
