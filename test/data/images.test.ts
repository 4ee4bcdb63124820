import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import lodepng from '@cwasm/lodepng';
import jpegTurbo from '@julusian/jpeg-turbo';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { drawPlacement, type Placement, placeImage } from '../../lib/data/augment.js';
import { decodeImage, decodeInto } from '../../lib/data/decode.js';
import { KeyedRandom } from '../../lib/data/keyedRandom.js';
import { DataError } from '../../lib/errors.js';

const fixture = (name: string) => readFileSync(join(import.meta.dirname, 'fixtures', name));

/** RGB [height, width, 3] as a PNG with an alpha channel. */
function pngOf(rgb: readonly number[], width: number, height: number): Uint8Array {
  const data = new Uint8ClampedArray(width * height * 4).fill(255);
  for (let i = 0; i < width * height; i++) for (let c = 0; c < 3; c++) data[4 * i + c] = rgb[3 * i + c];
  return lodepng.encode({ width, height, data });
}

function jpegOf(rgb: Uint8Array, width: number, height: number): Buffer {
  return jpegTurbo.compressSync(Buffer.from(rgb), {
    format: jpegTurbo.FORMAT_RGB,
    width,
    height,
    subsampling: jpegTurbo.SAMP_444,
    quality: 100,
  });
}

describe('decoding', () => {
  it('keeps the pixels of a colour PNG', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 9 }),
        fc.integer({ min: 1, max: 9 }),
        fc.infiniteStream(fc.nat(255)),
        (w, h, values) => {
          const rgb = [...values.take(w * h * 3)];
          // The encoder stores a picture of greys as a grey PNG; the first pixel keeps it in colour.
          rgb.splice(0, 3, 1, 2, 3);
          const { data, shape } = decodeImage(pngOf(rgb, w, h));
          expect(shape).toEqual([h, w, 3]);
          expect([...data]).toEqual(rgb);
        },
      ),
      { numRuns: 50 },
    );
  });

  it('turns grey into RGB by repetition, and RGB into grey by its luma', () => {
    expect(() => decodeImage(fixture('a.png'), { channels: 2 as never })).toThrow(
      /^decodeImage: expected channels 1 \(grey\) or 3 \(RGB\), got 2/,
    );
    const grey = decodeImage(fixture('a.png'));
    expect(grey.shape).toEqual([32, 32, 1]);
    const rgb = decodeImage(fixture('a.png'), { channels: 3 }).data;
    expect([...rgb]).toEqual([...grey.data].flatMap((value) => [value, value, value]));
    const primaries = [255, 0, 0, 0, 255, 0, 0, 0, 255, 255, 255, 255];
    expect([...decodeImage(pngOf(primaries, 4, 1), { channels: 1 }).data]).toEqual([76, 150, 29, 255]);
  });

  it('reads JPEG, in grey and in colour', () => {
    const grey = decodeImage(fixture('d.jpg'));
    expect(grey.shape).toEqual([32, 32, 1]);
    expect(Math.max(...grey.data)).toBeGreaterThan(240);
    const flat = new Uint8Array(16 * 8 * 3).map((_, i) => [200, 100, 50][i % 3]);
    const { data, shape } = decodeImage(jpegOf(flat, 16, 8));
    expect(shape).toEqual([8, 16, 3]);
    expect(Math.max(...data.map((value, i) => Math.abs(value - flat[i])))).toBeLessThanOrEqual(2);
  });

  it.each([
    [
      'a truncated PNG',
      fixture('a.png').subarray(0, 60),
      /face 7: the PNG is damaged: chunk IDAT at byte 33 runs past its end/,
    ],
    ['a PNG header alone', fixture('a.png').subarray(0, 20), /face 7: the PNG is truncated/],
    ['a truncated JPEG', fixture('d.jpg').subarray(0, 500), /face 7: the JPEG is damaged: it has no end marker/],
    [
      'a JPEG without a frame',
      Uint8Array.of(0xff, 0xd8, 0xff, 0xd9),
      /face 7: the JPEG is damaged: it has no frame header/,
    ],
    [
      'another format',
      Buffer.from('GIF89a'),
      /face 7: expected a PNG or a JPEG image, got 6 bytes that begin with 47 49 46 38/,
    ],
    ['nothing', new Uint8Array(0), /got 0 bytes that begin with nothing/],
  ])('names what is wrong with %s', (_, bytes, message) => {
    expect(() => decodeImage(bytes, { name: 'face 7' })).toThrow(message);
    expect(() => decodeImage(bytes, { name: 'face 7' })).toThrow(DataError);
  });

  it('refuses an image of another size before decoding it', () => {
    const out = new Uint8Array(16 * 16);
    expect(() => decodeInto(fixture('a.png'), [16, 16, 1], out, 0, 'face 7')).toThrow(
      /expected an image of 16×16 pixels, got 32×32/,
    );
    expect(out.every((value) => value === 0)).toBe(true);
  });
});

describe('placing', () => {
  const still: Placement = { dx: 0, dy: 0, flip: false, matrix: undefined };
  const size = [4, 5, 2] as const;
  const image = Uint8Array.from({ length: 40 }, (_, i) => 6 * i + 1);
  const place = (placement: Partial<Placement>, border: 'replicate' | number = 'replicate') => {
    const out = new Uint8Array(40);
    placeImage(image, 0, out, 0, size, { ...still, ...placement }, border);
    return out;
  };
  const at = (pixels: Uint8Array, y: number, x: number) => [...pixels.subarray((y * 5 + x) * 2, (y * 5 + x) * 2 + 2)];

  it('without change is the image itself', () => {
    expect(place({})).toEqual(image);
    expect(place({ matrix: [1, 0, 0, 1] })).toEqual(image);
  });

  it('flips, and twice is none', () => {
    const flipped = place({ flip: true });
    expect(at(flipped, 1, 0)).toEqual(at(image, 1, 4));
    const back = new Uint8Array(40);
    placeImage(flipped, 0, back, 0, size, { ...still, flip: true });
    expect(back).toEqual(image);
  });

  it('moves by whole pixels; the identity matrix moves the same way', () => {
    fc.assert(
      fc.property(fc.integer({ min: -3, max: 3 }), fc.integer({ min: -3, max: 3 }), fc.boolean(), (dx, dy, flip) => {
        for (const border of ['replicate', 9] as const) {
          expect(place({ dx, dy, flip, matrix: [1, 0, 0, 1] }, border)).toEqual(place({ dx, dy, flip }, border));
        }
      }),
    );
    expect(at(place({ dx: 1, dy: 1 }, 9), 0, 0)).toEqual(at(image, 1, 1));
    expect(at(place({ dx: 1, dy: 1 }, 9), 3, 4)).toEqual([9, 9]);
    expect(at(place({ dx: 1, dy: 1 }), 3, 4)).toEqual(at(image, 3, 4));
  });

  it('turns by 180° about the centre, and interpolates between pixels', () => {
    expect(at(place({ matrix: [-1, 0, 0, -1] }), 0, 0)).toEqual(at(image, 3, 4));
    // Half size about x = 2: output x = 1 reads at 1.5, halfway between columns 1 and 2.
    const [first] = at(place({ matrix: [0.5, 0, 0, 1] }), 0, 1);
    expect(first).toBe((image[2] + image[4]) / 2);
  });

  it('draws what was asked for, evenly', () => {
    const random = new KeyedRandom();
    const draws = Array.from({ length: 20_000 }, (_, position) =>
      drawPlacement({ shift: 2, flip: true, affine: { std: 0.1, probability: 0.25 } }, random, 1, 0, position),
    );
    const share = (test: (p: Placement) => boolean) => draws.filter(test).length / draws.length;
    for (let d = -2; d <= 2; d++) {
      expect(share(({ dx }) => dx === d)).toBeCloseTo(0.2, 1);
      expect(share(({ dy }) => dy === d)).toBeCloseTo(0.2, 1);
    }
    expect(share(({ flip }) => flip)).toBeCloseTo(0.5, 1);
    expect(share(({ matrix }) => matrix !== undefined)).toBeCloseTo(0.25, 1);
    const entries = draws.flatMap(({ matrix }) => (matrix ? [matrix[0] - 1, matrix[1], matrix[2], matrix[3] - 1] : []));
    const deviation = Math.sqrt(entries.reduce((sum, value) => sum + value * value, 0) / entries.length);
    expect(deviation).toBeGreaterThan(0.098);
    expect(deviation).toBeLessThan(0.102);
  });
});
