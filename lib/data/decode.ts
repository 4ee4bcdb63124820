import lodepng from '@cwasm/lodepng';
import jpegTurbo from '@julusian/jpeg-turbo';
import { checkOptions, expected } from '../errors.js';
import { dataError, remedies } from './dataError.js';

/** [height, width, channels]; channels is 1 (grey) or 3 (RGB). */
export type ImageShape = readonly [height: number, width: number, channels: 1 | 3];

/** Throws unless it is a number of channels, or left to the images. */
export function checkChannels(operation: string, channels: unknown): void {
  const known = channels === undefined || channels === 1 || channels === 3;
  expected(known, operation, 'channels 1 (grey) or 3 (RGB)', channels);
}

/** Pixels; a header that claims more is taken for damage. */
const MAX_SIDE = 16_384;

const PNG_SIGNATURE = [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a];

/**
 * Shape of an encoded PNG or JPEG as its header states it, without decoding: grey images have one channel, all others
 * (palettes too) three. `where` names the image in an error.
 */
export function imageShapeOf(bytes: Uint8Array, where: string): ImageShape {
  if (isPng(bytes)) {
    if (bytes.length < 33)
      throw dataError(
        `${where}: the PNG is truncated: expected a header of 33 bytes, got ${bytes.length}`,
        remedies.image,
      );
    const colorType = bytes[25];
    const [width, height] = [uint32(bytes, 16), uint32(bytes, 20)];
    if (!(width >= 1 && height >= 1 && width <= MAX_SIDE && height <= MAX_SIDE)) {
      throw dataError(
        `${where}: expected a picture of 1 to ${MAX_SIDE} pixels a side, got ${width}×${height}`,
        remedies.image,
      );
    }
    return [height, width, colorType === 0 || colorType === 4 ? 1 : 3];
  }
  if (isJpeg(bytes)) return jpegShape(bytes, where);
  const start = Array.from(bytes.subarray(0, 4), (byte) => byte.toString(16).padStart(2, '0')).join(' ');
  throw dataError(
    `${where}: expected a PNG or a JPEG image, got ${bytes.length} bytes that begin with ${start || 'nothing'}`,
    remedies.image,
  );
}

/**
 * Decodes a PNG or JPEG into `out` as interleaved uint8 [height, width, channels] from `offset`. Grey becomes RGB by
 * repetition, RGB becomes grey by the luma of ITU-R BT.601; transparency is dropped; 16-bit samples keep their high byte.
 */
export function decodeInto(bytes: Uint8Array, shape: ImageShape, out: Uint8Array, offset: number, where: string): void {
  const found = imageShapeOf(bytes, where);
  const [height, width, channels] = shape;
  if (found[0] !== height || found[1] !== width) {
    throw dataError(
      `${where}: expected an image of ${width}×${height} pixels, got ${found[1]}×${found[0]}`,
      'all images of a set have one size: resize them when the set is packed',
    );
  }
  if (isPng(bytes)) {
    copyRgba(decodePng(bytes, where), out, offset, height * width, found[2], channels);
  } else {
    decodeJpeg(bytes, out.subarray(offset, offset + height * width * channels), channels, where);
  }
}

/**
 * Decodes a PNG or JPEG of any size.
 *
 * @example
 * const { data, shape } = decodeImage(await readFile('face.jpg'), { channels: 3 });  // data: [H, W, 3]
 */
export function decodeImage(
  bytes: Uint8Array,
  options: { readonly channels?: 1 | 3; readonly name?: string } = {},
): { data: Uint8Array; shape: ImageShape } {
  expected(bytes instanceof Uint8Array, 'decodeImage', 'the bytes of a PNG or JPEG, a Uint8Array', bytes);
  checkOptions('decodeImage', options, ['channels', 'name']);
  checkChannels('decodeImage', options.channels);
  const where = options.name ?? 'image';
  const [height, width, stored] = imageShapeOf(bytes, where);
  const shape: ImageShape = [height, width, options.channels ?? stored];
  const data = new Uint8Array(height * width * shape[2]);
  decodeInto(bytes, shape, data, 0, where);
  return { data, shape };
}

function decodePng(bytes: Uint8Array, where: string): Uint8ClampedArray {
  try {
    return lodepng.decode(bytes).data;
  } catch (cause) {
    throw dataError(`${where}: the PNG is damaged: ${describePng(bytes)}`, remedies.image, cause);
  }
}

function decodeJpeg(bytes: Uint8Array, out: Uint8Array, channels: 1 | 3, where: string): void {
  const view = (array: Uint8Array) => Buffer.from(array.buffer as ArrayBuffer, array.byteOffset, array.byteLength);
  try {
    const format = channels === 1 ? jpegTurbo.FORMAT_GRAY : jpegTurbo.FORMAT_RGB;
    jpegTurbo.decompressSync(view(bytes), view(out), { format });
  } catch (cause) {
    const said = (cause as Error).message;
    // libjpeg warnings arrive as "No error"; the bytes then say more.
    const reason = endsJpeg(bytes)
      ? said === 'No error'
        ? 'its compressed data are corrupt'
        : said
      : 'it has no end marker: truncated';
    throw dataError(`${where}: the JPEG is damaged: ${reason}`, remedies.image, cause);
  }
}

function copyRgba(
  rgba: Uint8ClampedArray,
  out: Uint8Array,
  offset: number,
  pixels: number,
  from: 1 | 3,
  to: 1 | 3,
): void {
  if (to === 3) {
    for (let i = 0, at = offset; i < 4 * pixels; i += 4) {
      out[at++] = rgba[i];
      out[at++] = rgba[i + 1];
      out[at++] = rgba[i + 2];
    }
  } else if (from === 1) {
    for (let i = 0; i < pixels; i++) out[offset + i] = rgba[4 * i];
  } else {
    for (let i = 0; i < pixels; i++) {
      out[offset + i] = (19595 * rgba[4 * i] + 38470 * rgba[4 * i + 1] + 7471 * rgba[4 * i + 2] + 32768) >> 16;
    }
  }
}

/** What a chunk walk finds wrong; the decoder itself gives no reason. */
function describePng(bytes: Uint8Array): string {
  let at = 8;
  while (at + 12 <= bytes.length) {
    const length = uint32(bytes, at);
    const type = String.fromCharCode(...bytes.subarray(at + 4, at + 8));
    if (at + 12 + length > bytes.length) return `chunk ${type} at byte ${at} runs past its end: truncated`;
    if (type === 'IEND') return 'a chunk is corrupt';
    at += 12 + length;
  }
  return 'it has no IEND chunk: truncated';
}

function jpegShape(bytes: Uint8Array, where: string): ImageShape {
  for (let at = 2; at + 9 < bytes.length && bytes[at] === 0xff; ) {
    const marker = bytes[at + 1];
    // SOF0 … SOF15; C4, C8 and CC are other segments.
    if (marker >= 0xc0 && marker <= 0xcf && marker !== 0xc4 && marker !== 0xc8 && marker !== 0xcc) {
      const uint16 = (from: number) => (bytes[from] << 8) | bytes[from + 1];
      return [uint16(at + 5), uint16(at + 7), bytes[at + 9] === 1 ? 1 : 3];
    }
    const standsAlone = marker === 0xff || marker === 0x01 || (marker >= 0xd0 && marker <= 0xd8);
    at += marker === 0xff ? 1 : standsAlone ? 2 : 2 + ((bytes[at + 2] << 8) | bytes[at + 3]);
  }
  throw dataError(`${where}: the JPEG is damaged: it has no frame header`, remedies.image);
}

const isPng = (bytes: Uint8Array): boolean => PNG_SIGNATURE.every((byte, i) => bytes[i] === byte);

const isJpeg = (bytes: Uint8Array): boolean => bytes[0] === 0xff && bytes[1] === 0xd8;

function endsJpeg(bytes: Uint8Array): boolean {
  for (let i = bytes.length - 2; i >= Math.max(0, bytes.length - 64); i--) {
    if (bytes[i] === 0xff && bytes[i + 1] === 0xd9) return true;
  }
  return false;
}

function uint32(bytes: Uint8Array, at: number): number {
  return ((bytes[at] << 24) | (bytes[at + 1] << 16) | (bytes[at + 2] << 8) | bytes[at + 3]) >>> 0;
}
