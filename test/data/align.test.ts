import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { alignmentTemplates, similarityTransform, warpAffine } from '../../lib/data/index.js';
import { DataError, ShapeError } from '../../lib/errors.js';

const template = alignmentTemplates['112x112'];
const apply = ([a, b, tx, c, d, ty]: ArrayLike<number> & Iterable<number>, points: ArrayLike<number>) =>
  Array.from(points, (_, i) => {
    const [x, y] = [points[i - (i % 2)], points[i - (i % 2) + 1]];
    return i % 2 === 0 ? a * x + b * y + tx : c * x + d * y + ty;
  });
const squares = (a: ArrayLike<number>, b: ArrayLike<number>) =>
  Array.from(a).reduce((sum, x, i) => sum + (x - b[i]) ** 2, 0);

const coordinate = fc.double({ min: 0, max: 200, noNaN: true });
const landmarks = fc.array(coordinate, { minLength: 10, maxLength: 10 });
const spread = (points: number[]) => Math.max(...points) - Math.min(...points) > 1;

describe('a similarity', () => {
  it('is found again', () => {
    fc.assert(
      fc.property(
        fc.double({ min: 0.1, max: 5, noNaN: true }),
        fc.double({ min: -3, max: 3, noNaN: true }),
        coordinate,
        (scale, angle, shift) => {
          const [c, s] = [scale * Math.cos(angle), scale * Math.sin(angle)];
          const matrix = [c, -s, shift, s, c, 7];
          const found = similarityTransform(template, apply(matrix, template));
          expect(squares(found, matrix)).toBeLessThan(1e-18);
        },
      ),
    );
  });

  it('is the nearest of all similarities', () => {
    fc.assert(
      fc.property(
        landmarks.filter(spread),
        fc.integer({ min: 0, max: 3 }),
        fc.double({ min: -1e-2, max: 1e-2, noNaN: true }),
        (points, which, by) => {
          const [a, b, tx, c, , ty] = similarityTransform(points, template);
          const moved = [a, c, tx, ty];
          moved[which] += by;
          const near = squares(apply([a, b, tx, c, a, ty], points), template);
          const [a2, c2, tx2, ty2] = moved;
          expect(squares(apply([a2, -c2, tx2, c2, a2, ty2], points), template)).toBeGreaterThanOrEqual(
            near * (1 - 1e-12),
          );
        },
      ),
    );
  });

  it('of mirrored landmarks is a rotation still', () => {
    const mirrored = Array.from(template, (value, i) => (i % 2 === 0 ? 112 - value : value));
    const [a, b, , c, d] = similarityTransform(mirrored, template);
    expect([a - d, b + c]).toEqual([0, 0]);
    expect(a * d - b * c).toBeGreaterThan(0);
  });

  it('of collinear landmarks has one answer', () => {
    const line = [0, 0, 1, 1, 2, 2, 3, 3, 4, 4];
    expect(squares(similarityTransform(line, line), [1, 0, 0, 0, 1, 0])).toBeLessThan(1e-20);
    const turned = [0, 0, 0, 2, 0, 4, 0, 6, 0, 8];
    expect(squares(similarityTransform(line, turned), [1, -1, 0, 1, 1, 0])).toBeLessThan(1e-20);
  });

  it.each([
    ['points that are all one', new Array(10).fill(31.7), template, 'two differ, got one place'],
    ['a target that is one place', template, new Array(10).fill(5), 'two differ, got one place'],
    ['a mirror image', [1, 0, -1, 0, 0, 1, 0, -1], [1, 0, -1, 0, 0, -1, 0, 1], 'got a mirror image'],
    ['NaN', [Number.NaN, 0, 1, 1], [0, 0, 1, 1], 'expected finite points'],
  ])('of %s is refused', (_, from, to, message) => {
    expect(() => similarityTransform(from, to)).toThrow(message);
    expect(() => similarityTransform(from, to)).toThrow(DataError);
  });

  it('needs as many points as the template has', () => {
    expect(() => similarityTransform([1, 2, 3, 4], template)).toThrow(ShapeError);
    expect(() => similarityTransform([1, 2], [1, 2])).toThrow(/two or more/);
    const dot = { data: new Uint8Array(1), height: 1, width: 1, channels: 1 };
    expect(() => warpAffine(dot, [1, 0, 0, 0, 1], { width: 1, height: 1 })).toThrow(
      /^warpAffine: expected a matrix of six finite numbers/,
    );
  });
});

describe('the templates', () => {
  it('are the published one, moved', () => {
    const x = (name: keyof typeof alignmentTemplates) => alignmentTemplates[name][0];
    expect([x('112x112'), x('128x128'), x('96x112')].map((value) => value.toFixed(4))).toEqual([
      '38.2946',
      '46.2946',
      '30.2946',
    ]);
  });
});

describe('a warp', () => {
  const picture = {
    data: Uint8Array.from({ length: 5 * 7 * 2 }, (_, i) => (i * 37) % 256),
    height: 5,
    width: 7,
    channels: 2,
  };

  it('by nothing is the picture', () => {
    expect(warpAffine(picture, [1, 0, 0, 0, 1, 0], picture)).toEqual(picture);
  });
  it('shifts, black where there was nothing', () => {
    const { data } = warpAffine(picture, [1, 0, 2, 0, 1, 1], picture);
    const at = (from: Uint8Array, x: number, y: number) => from[(y * 7 + x) * 2];
    for (let y = 0; y < 5; y++)
      for (let x = 0; x < 7; x++) expect(at(data, x, y)).toBe(x < 2 || y < 1 ? 0 : at(picture.data, x - 2, y - 1));
  });
  it('is bilinear in between', () => {
    const two = { data: Uint8Array.of(10, 20), height: 1, width: 2, channels: 1 };
    expect([...warpAffine(two, [1, 0, 0.25, 0, 1, 0], { width: 2, height: 1 }).data]).toEqual([8, 18]);
  });
  it('needs an inverse, and as many bytes as its shape says', () => {
    expect(() => warpAffine(picture, [1, 1, 0, 1, 1, 0], picture)).toThrow(/a matrix with an inverse/);
    expect(() => warpAffine({ ...picture, channels: 3 }, [1, 0, 0, 0, 1, 0], picture)).toThrow(ShapeError);
  });
});
