import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { openPairSet } from '../../lib/data/pairSet.js';
import { writePairSet } from '../../lib/data/pairWriter.js';
import { readPickle } from '../../lib/data/pickle.js';
import { ArgumentRangeError, DataError } from '../../lib/errors.js';

const folder = join(import.meta.dirname, 'fixtures');
const fixture = (name: string) => join(folder, name);
const files = readdirSync(folder).filter((name) => name.endsWith('.bin') && !name.startsWith('evil'));
const pickled = (...codes: (number | string)[]) =>
  Uint8Array.from(codes.flatMap((code) => (typeof code === 'number' ? [code] : [...Buffer.from(code, 'latin1')])));

describe('pair sets', () => {
  it('has a fixture for each protocol, container and numpy generation', () => {
    expect(files).toHaveLength(6 * 6 + 4);
  });

  it.each(files)('reads %s', (file) => {
    const pairs = openPairSet(fixture(file));
    expect(pairs.size).toBe(2);
    expect([...pairs.same]).toEqual([1, 0]);
    expect(pairs.imageShape).toEqual([32, 32, 1]);
    ['a.png', 'b.png', 'c.png', 'd.jpg'].forEach((name, i) => {
      expect(Buffer.from(pairs.encoded(i)).equals(readFileSync(fixture(name)))).toBe(true);
    });
    expect(pairs.images(2, 2).subarray(1024)).toEqual(pairs.image(3));
  });

  it('reads the real set, with folds of 300 same and 300 different pairs', () => {
    const pairs = openPairSet(join(import.meta.dirname, '../../data/kanji28/pairs_seen_fonts.bin'));
    expect(pairs.size).toBe(6000);
    for (let fold = 0; fold < 10; fold++) {
      expect(pairs.same.subarray(fold * 600, (fold + 1) * 600).reduce((a, b) => a + b, 0)).toBe(300);
    }
    expect(Math.max(...pairs.images(0, 20))).toBe(255);
  });
});

describe('the writer', () => {
  const path = join(tmpdir(), `flashmargin-written-${process.pid}.bin`);
  const images = ['a.png', 'b.png', 'c.png', 'd.jpg'].map((name) => readFileSync(fixture(name)));

  it('writes what the reader reads', () => {
    writePairSet(path, images, [true, false]);
    const pairs = openPairSet(path);
    expect([...pairs.same]).toEqual([1, 0]);
    for (const [i, image] of images.entries()) expect(Buffer.from(pairs.encoded(i)).equals(image)).toBe(true);
    rmSync(path);
  });

  it.each<[string, unknown[], unknown[], RegExp]>([
    ['no pair', [], [], /a pair or more, got 0/],
    ['an image that is none', [images[0], 'b'], [true], /image 1, the bytes of a PNG or JPEG, got 'b'/],
    ['a truth that is none', images.slice(0, 2), ['no'], /true or false of pair 0, got 'no'/],
  ])('refuses %s', (_, wrong, same, message) => {
    const write = () => writePairSet(path, wrong as never, same as never);
    expect(write).toThrow(ArgumentRangeError);
    expect(write).toThrow(new RegExp(`^writePairSet: expected ${message.source}`));
    expect(() => writePairSet(path, [new Uint8Array(9), new Uint8Array(9)], [true])).toThrow(
      /^writePairSet: image 0: expected a PNG or a JPEG image/,
    );
  });
  it('refuses half a pair, and a folder that is not there', () => {
    expect(() => writePairSet(path, images.slice(1), [true, false])).toThrow('expected 4 images for 2 pairs, got 3');
    expect(() => writePairSet('/nowhere/x.bin', images, [true, false])).toThrow(/\/nowhere\/x.bin: cannot be written/);
    expect(existsSync(path)).toBe(false);
  });
});

describe('what a pickle may not do', () => {
  it.each([0, 2, 4])('refuses to call os.system (protocol %i), and does not', (protocol) => {
    expect(() => openPairSet(fixture(`evil.p${protocol}.bin`))).toThrow(
      /at byte \d+: pickle opcode (STACK_)?GLOBAL asks for the Python object "posix.system"; nothing of the file was executed/,
    );
    expect(existsSync('pwned')).toBe(false);
  });

  it.each([
    ['a persistent id', pickled('Pabc\n.'), /byte 0: pickle opcode PERSID/],
    ['INST', pickled('(ios\nsystem\n.'), /byte 1: pickle opcode INST/],
    ['OBJ', pickled('(', 'cnumpy\ndtype\n', 'o.'), /byte 14: pickle opcode OBJ/],
    ['NEWOBJ', pickled('cnumpy\ndtype\n', ')', 0x81, '.'), /byte 14: pickle opcode NEWOBJ/],
    ['an extension', pickled(0x80, 2, 0x82, 1, '.'), /byte 2: pickle opcode EXT1/],
    ['a dictionary', pickled(0x80, 2, '}', '.'), /byte 2: pickle opcode EMPTY_DICT/],
    ['an out-of-band buffer', pickled(0x80, 5, 0x97, '.'), /byte 2: pickle opcode NEXT_BUFFER/],
    ['an unknown opcode', pickled(0x80, 2, 0xff, '.'), /byte 2: pickle opcode 0xff is not part/],
    ['a name of Object.prototype', pickled('cconstructor\nname\n.'), /Python object "constructor.name"/],
    ['an array of objects', pickled('cnumpy\ndtype\n', '(', 'U', 2, 'O8', 'tR', '.'), /leaves a value that is no data/],
    ['protocol 6', pickled(0x80, 6, '.'), /names protocol 6/],
    ['a list that holds itself', pickled(']q', 0, 'h', 0, 'a.'), /contain each other/],
    ['a missing memo', pickled('h', 7, '.'), /asks for value 7/],
    ['an empty stack', pickled('.'), /finds an empty stack/],
    ['calling a number', pickled('K', 1, ')', 'R.'), /calls something that is no known constructor/],
  ])('refuses %s', (_, bytes, message) => {
    expect(() => readPickle(bytes, 'x.bin')).toThrow(message);
    expect(() => readPickle(bytes, 'x.bin')).toThrow(DataError);
  });

  it('says where a truncated file ends', () => {
    const bytes = readFileSync(fixture('bytes.p4.bin'));
    for (const length of [0, 1, 5, 100, bytes.length - 1]) {
      expect(() => readPickle(bytes.subarray(0, length), 'x.bin')).toThrow(
        /x.bin at byte \d+: expected \d+ more bytes/,
      );
    }
  });

  it('answers any bytes with a value or a DataError', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 60 }), (bytes) => {
        try {
          readPickle(bytes, 'x.bin');
        } catch (error) {
          expect(error).toBeInstanceOf(DataError);
        }
      }),
      { numRuns: 3000 },
    );
  });
});

describe('misuse', () => {
  const write = (bytes: Uint8Array) => {
    const path = join(tmpdir(), `flashmargin-pairs-${process.pid}.bin`);
    writeFileSync(path, bytes);
    return path;
  };

  it.each([
    ['no pair of lists', pickled('K', 3, '.'), 'expected (images, same), got 3'],
    ['a wrong count', pickled('(](', 'U', 1, 'x', 'e]', 0x88, 'at.'), 'got 1 images and 1 pairs'],
    [
      'a strange flag',
      pickled('(](', 'U', 1, 'x', 'U', 1, 'x', 'e]K', 2, 'at.'),
      'pair 0: expected True or False, got 2',
    ],
    ['no image', pickled('(](', 'U', 4, 'GIF8', 'U', 1, 'x', 'e]', 0x88, 'at.'), 'image 0: expected a PNG or a JPEG'],
  ])('names %s', (_, bytes, message) => {
    expect(() => openPairSet(write(bytes))).toThrow(message);
  });

  it('names a missing file', () => {
    expect(() => openPairSet('/nowhere/lfw.bin')).toThrow(/\/nowhere\/lfw.bin: cannot be read/);
  });
});
