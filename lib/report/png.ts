import lodepng from '@cwasm/lodepng';
import { ShapeError } from '../errors.js';

/**
 * A picture as the data URI of a PNG.
 *
 * @param image interleaved uint8 [height, width, channels]; 1 channel is grey, 3 are RGB
 *
 * @example
 * const png = encodePng(pixels, 112, 112, 3);  // 'data:image/png;base64,…'
 */
export function encodePng(image: Uint8Array, width: number, height: number, channels: 1 | 3): string {
  const pixels = width * height;
  if (!(pixels > 0) || image.length !== pixels * channels) {
    throw new ShapeError(
      `encodePng: expected ${width}×${height}×${channels} = ${pixels * channels} bytes (at least 1), got ${image.length}`,
      { code: 'ERR_FM_SHAPE' },
    );
  }
  const rgba = new Uint8Array(4 * pixels);
  for (let i = 0, from = 0; i < rgba.length; i += 4, from += channels) {
    rgba[i] = image[from];
    rgba[i + 1] = image[from + (channels === 3 ? 1 : 0)];
    rgba[i + 2] = image[from + (channels === 3 ? 2 : 0)];
    rgba[i + 3] = 255;
  }
  const png = lodepng.encode({ width, height, data: rgba });
  return `data:image/png;base64,${Buffer.from(png.buffer, png.byteOffset, png.byteLength).toString('base64')}`;
}
