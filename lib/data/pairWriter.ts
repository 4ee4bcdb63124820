import { closeSync, fsyncSync, openSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { checkLists, checkPath, expected } from '../errors.js';
import { dataError, remedies } from './dataError.js';
import { imageShapeOf } from './decode.js';

/**
 * Writes a `.bin` pair set, a pickle of protocol 3 that Python reads without numpy. Pair p is images 2p and 2p + 1, PNG
 * or JPEG. The file appears under its name only when it is complete.
 *
 * @example
 * writePairSet('pairs.bin', [a1, a2, b1, c1], [true, false]);
 */
export function writePairSet(path: string, images: readonly Uint8Array[], same: readonly boolean[]): void {
  checkPath('writePairSet', 'the path of a .bin pair set', path);
  checkLists('writePairSet', { images, same });
  expected(
    images.length === 2 * same.length,
    'writePairSet',
    `${2 * same.length} images for ${same.length} pairs`,
    images.length,
  );
  expected(same.length > 0, 'writePairSet', 'a pair or more', same.length);
  images.forEach((bytes, i) => {
    expected(bytes instanceof Uint8Array, 'writePairSet', `image ${i}, the bytes of a PNG or JPEG`, bytes);
    imageShapeOf(bytes, `writePairSet: image ${i}`);
  });
  same.forEach((value: unknown, pair) => {
    expected([true, false, 1, 0].includes(value as boolean), 'writePairSet', `true or false of pair ${pair}`, value);
  });
  const temporary = `${path}.${process.pid}.tmp`;
  let fd: number | undefined;
  try {
    fd = openSync(temporary, 'w');
    writeFileSync(fd, encodePairs(images, same));
    fsyncSync(fd);
    renameSync(temporary, path);
  } catch (cause) {
    rmSync(temporary, { force: true });
    throw dataError(`${path}: cannot be written: ${(cause as Error).message}`, remedies.write, cause);
  } finally {
    if (fd !== undefined) closeSync(fd);
  }
}

function encodePairs(images: readonly Uint8Array[], same: readonly boolean[]): Uint8Array {
  const binaryBytes = (bytes: Uint8Array): Uint8Array[] => {
    const head = Buffer.alloc(5);
    head.write('B', 'latin1');
    head.writeUInt32LE(bytes.length, 1);
    return [head, bytes];
  };
  const booleans = Uint8Array.from(same, (value) => (value ? 0x88 : 0x89));
  // PROTO 3; a list between EMPTY_LIST MARK and APPENDS, twice; TUPLE2; STOP.
  return Buffer.concat([
    Uint8Array.of(0x80, 3),
    Buffer.from(']('),
    ...images.flatMap(binaryBytes),
    Buffer.from('e]('),
    booleans,
    Buffer.from('e'),
    Uint8Array.of(0x86),
    Buffer.from('.'),
  ]);
}
