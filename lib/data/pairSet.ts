import { readFileSync } from 'node:fs';
import { basename } from 'node:path';
import { checkOptions, checkPath, expected } from '../errors.js';
import { dataError, remedies } from './dataError.js';
import { checkChannels, decodeInto, type ImageShape, imageShapeOf } from './decode.js';
import { NdArray, type PickleValue, readPickle } from './pickle.js';

/** Verification pairs: pair p is images 2p and 2p + 1. */
export interface PairSet {
  /** Number of pairs, P. */
  readonly size: number;
  /** 1 where both images show the same identity, [P]. */
  readonly same: Uint8Array;
  /** [height, width, channels] */
  readonly imageShape: ImageShape;
  /** Image i in [0, 2P) as it is stored. */
  encoded(i: number): Uint8Array;
  /** Image i in [0, 2P), uint8 [height, width, channels]. */
  image(i: number): Uint8Array;
  /** Images [first, first + count), uint8 [count, height, width, channels]. */
  images(first: number, count: number): Uint8Array;
}

/**
 * Opens a `.bin` pair set (LFW, CFP-FP, AgeDB and so on as face sets ship them): a Python pickle, of any protocol, of
 * (2P encoded images, P booleans). The file is read whole; images are decoded when asked for.
 *
 * @example
 * const pairs = openPairSet('data/kanji28/pairs_seen_fonts.bin');
 * pairs.size;        // 6000
 * pairs.image(0);    // Uint8Array(1024)
 */
export function openPairSet(path: string, options: { readonly channels?: 1 | 3 } = {}): PairSet {
  checkPath('openPairSet', 'the path of a .bin pair set', path);
  checkOptions('openPairSet', options, ['channels']);
  checkChannels('openPairSet', options.channels);
  const name = basename(path);
  let bytes: Buffer;
  try {
    bytes = readFileSync(path);
  } catch (cause) {
    throw dataError(`${path}: cannot be read: ${(cause as Error).message}`, remedies.path, cause);
  }
  const content = readPickle(bytes, name);
  if (!Array.isArray(content) || content.length !== 2) {
    throw dataError(`${name}: expected (images, same), got ${describe(content)}`, remedies.pairs);
  }
  const images = encodedImages(content[0], name);
  const same = flags(content[1], name);
  if (images.length !== 2 * same.length || same.length === 0) {
    throw dataError(
      `${name}: expected twice as many images as pairs, got ${images.length} images and ${same.length} pairs`,
      remedies.pairs,
    );
  }
  const [height, width, stored] = imageShapeOf(images[0], `${name} image 0`);
  const imageShape: ImageShape = [height, width, options.channels ?? stored];
  const imageBytes = height * width * imageShape[2];

  const checkImages = (first: number, count: number) => {
    const natural = [first, count].every((x) => Number.isSafeInteger(x) && x >= 0);
    const within = natural && first + count <= images.length;
    expected(within, name, `images within [0, ${images.length})`, `${count} from ${first}`);
  };
  const readImages = (first: number, count: number): Uint8Array => {
    checkImages(first, count);
    const out = new Uint8Array(count * imageBytes);
    for (let i = 0; i < count; i++)
      decodeInto(images[first + i], imageShape, out, i * imageBytes, `${name} image ${first + i}`);
    return out;
  };
  return {
    size: same.length,
    same,
    imageShape,
    encoded: (i) => {
      checkImages(i, 1);
      return images[i];
    },
    image: (i) => readImages(i, 1),
    images: readImages,
  };
}

function encodedImages(value: PickleValue, name: string): readonly Uint8Array[] {
  if (!Array.isArray(value))
    throw dataError(`${name}: expected a list of encoded images, got ${describe(value)}`, remedies.pairs);
  return value.map((item, i) => {
    if (item instanceof Uint8Array) return item;
    if (item instanceof NdArray && item.dtype === 'u1') return item.data;
    // Python 2's str, written by a Python 3 that had read it as latin-1 text.
    if (typeof item === 'string') return Buffer.from(item, 'latin1');
    throw dataError(`${name} image ${i}: expected bytes or a uint8 array, got ${describe(item)}`, remedies.pairs);
  });
}

function flags(value: PickleValue, name: string): Uint8Array {
  if (value instanceof NdArray) return Uint8Array.from(value.data, (byte) => Number(byte !== 0));
  if (!Array.isArray(value))
    throw dataError(`${name}: expected a list of booleans, got ${describe(value)}`, remedies.pairs);
  return Uint8Array.from(value, (item, pair) => {
    if (item === true || item === 1) return 1;
    if (item === false || item === 0) return 0;
    throw dataError(`${name} pair ${pair}: expected True or False, got ${describe(item)}`, remedies.pairs);
  });
}

function describe(value: PickleValue | undefined): string {
  if (Array.isArray(value)) return `a list of ${value.length}`;
  if (value instanceof NdArray) return `a ${value.dtype === 'u1' ? 'uint8' : 'bool'} array [${value.shape.join(', ')}]`;
  if (value instanceof Uint8Array) return `${value.length} bytes`;
  return JSON.stringify(value) ?? 'nothing';
}
