import { closeSync, mkdtempSync, openSync, readdirSync, readFileSync, rmSync, writeFileSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, describe, expect, it } from 'vitest';
import { openDataset } from '../../lib/data/dataset.js';
import { RECORD_MAGIC } from '../../lib/data/recordFormat.js';
import { RecordReader } from '../../lib/data/recordio.js';
import { encodeRecord, RecordWriter } from '../../lib/data/recordWriter.js';
import { ArgumentRangeError, DataError } from '../../lib/errors.js';

const folder = mkdtempSync(join(tmpdir(), 'flashmargin-rec-'));
afterAll(() => rmSync(folder, { recursive: true }));

const png = readFileSync(join(import.meta.dirname, 'fixtures/a.png'));
const jpeg = readFileSync(join(import.meta.dirname, 'fixtures/d.jpg'));
const read = { access: 'read' } as const;
let made = 0;
const fresh = () => join(folder, `set${made++}.rec`);

/** IRHeader with a scalar label, then the body. */
function payload(label: number, id: number, body: Uint8Array): Uint8Array {
  const head = Buffer.alloc(24);
  head.writeFloatLE(label, 4);
  head.writeBigUInt64LE(BigInt(id), 8);
  return Buffer.concat([head, body]);
}

function writeRaw(payloads: readonly Uint8Array[]): { path: string; offsets: number[] } {
  const path = fresh();
  const records = payloads.map(encodeRecord);
  const offsets = records.map((_, i) => records.slice(0, i).reduce((sum, record) => sum + record.length, 0));
  writeFileSync(path, Buffer.concat(records));
  return { path, offsets };
}

function writeSet(layout: 'face' | 'flat', labels: readonly number[]): string {
  const path = fresh();
  const writer = new RecordWriter(path, { layout });
  for (const label of labels) writer.add(label, label % 2 === 0 ? png : jpeg);
  writer.finish();
  return path;
}

const magicBytes = Uint8Array.of(0x0a, 0x23, 0xd7, 0xce);
/** Bytes in which the magic is common, at aligned offsets and elsewhere. */
const bytesWithMagic = fc
  .array(
    fc.oneof(fc.constant(magicBytes), fc.uint8Array({ maxLength: 9 }), fc.uint8Array({ minLength: 4, maxLength: 4 })),
    {
      maxLength: 12,
    },
  )
  .map((parts) => Uint8Array.from(parts.flatMap((part) => [...part])));

describe('records', () => {
  it('come back as they were written, also where they hold the magic', () => {
    fc.assert(
      fc.property(fc.array(bytesWithMagic, { minLength: 1, maxLength: 5 }), (bodies) => {
        const { path } = writeRaw(bodies.map((body, i) => payload(i, i, body)));
        const reader = new RecordReader(path);
        bodies.forEach((body, i) => {
          const record = reader.record(i);
          expect(Buffer.from(record.body).equals(body)).toBe(true);
          expect(record.labels).toEqual([i]);
        });
        reader.close();
      }),
      { numRuns: 300 },
    );
  });

  it('never show the magic at a multiple of 4 outside a header', () => {
    fc.assert(
      fc.property(bytesWithMagic, (body) => {
        const record = Buffer.from(encodeRecord(payload(0, 0, body)));
        const parts = [];
        for (let at = 0; at < record.length; ) {
          expect(record.readUInt32LE(at)).toBe(RECORD_MAGIC);
          const length = record.readUInt32LE(at + 4) & 0x1fffffff;
          for (let i = 0; i + 4 <= length; i += 4) expect(record.readUInt32LE(at + 8 + i)).not.toBe(RECORD_MAGIC);
          parts.push(record.readUInt32LE(at + 4) >>> 29);
          at += 8 + ((length + 3) & ~3);
        }
        expect(parts).toEqual(
          parts.length === 1 ? [0] : parts.map((_, i) => (i === 0 ? 1 : i === parts.length - 1 ? 3 : 2)),
        );
      }),
    );
  });

  it('carry label arrays', () => {
    const path = fresh();
    const writer = new RecordWriter(path, { layout: 'flat' });
    writer.add([3, 0.25, -7], png);
    writer.finish();
    const reader = new RecordReader(path, { idx: path.replace('.rec', '.idx') });
    expect(reader.record(0)).toMatchObject({ flag: 3, labels: [3, 0.25, -7] });
    expect(openDataset(path, read).label(0)).toBe(3);
  });

  it('are indexed by their ids where there is no .idx, else by their order', () => {
    const withIds = new RecordReader(writeRaw([7, 5, 9].map((id) => payload(0, id, png))).path);
    expect([...withIds.index.keys]).toEqual([5, 7, 9]);
    const without = new RecordReader(writeRaw([0, 0, 0].map((id) => payload(0, id, png))).path);
    expect([...without.index.keys]).toEqual([0, 1, 2]);
  });
});

describe('sets', () => {
  it.each(['face', 'flat'] as const)('of the %s layout list their images', (layout) => {
    const labels = [0, 0, 1, 3];
    const path = writeSet(layout, labels);
    const set = openDataset(path, read);
    expect(set.size).toBe(4);
    expect(set.numClasses).toBe(4);
    expect(set.imageShape).toEqual([32, 32, 1]);
    expect([...set.labels()]).toEqual(labels);
    expect(set.key(0)).toBe(layout === 'face' ? 1 : 0);
    expect(Buffer.from(set.encoded(2)).equals(jpeg)).toBe(true);
  });

  it('of the face layout hold the ranges of the identities, empty ones too', () => {
    const path = writeSet('face', [0, 0, 1, 3]);
    const reader = new RecordReader(path, { idx: path.replace('.rec', '.idx') });
    expect(reader.record(0)).toMatchObject({ flag: 2, labels: [5, 9], id: 0n, id2: 1n });
    expect([5, 6, 7, 8].map((key) => reader.record(key).labels)).toEqual([
      [1, 3],
      [3, 4],
      [4, 4],
      [4, 5],
    ]);
  });

  it('do not depend on the order of the .idx', () => {
    const path = writeSet('face', [0, 1, 2, 3, 4]);
    const idx = path.replace('.rec', '.idx');
    const lines = readFileSync(idx, 'utf8').trimEnd().split('\n');
    writeFileSync(idx, `${lines.reverse().join('\r\n')}\r\n`);
    expect([...openDataset(path, read).labels()]).toEqual([0, 1, 2, 3, 4]);
  });

  it('count their classes where there is no property file', () => {
    const path = writeSet('flat', [2, 6, 1]);
    rmSync(path.replace('.rec', '.property'));
    expect(openDataset(path, read).numClasses).toBe(7);
  });

  it('find the last image where float32 has rounded the range', () => {
    // Keys above 2^24: image keys 2^24 and 2^24 + 1, whose end 2^24 + 2 the header rounds to a neighbour.
    const body = (flag: number, values: readonly number[], image: Uint8Array) => {
      const head = Buffer.alloc(24 + 4 * flag);
      head.writeUInt32LE(flag, 0);
      for (const [i, value] of values.entries()) head.writeFloatLE(value, flag === 0 ? 4 : 24 + 4 * i);
      return Buffer.concat([head, image]);
    };
    for (const announced of [2 ** 24, 2 ** 24 + 2, 2 ** 24 + 4]) {
      const { path, offsets } = writeRaw([
        body(2, [announced, announced + 1], Buffer.alloc(0)),
        body(0, [0], png),
        body(0, [1], png),
        body(2, [1, 2], Buffer.alloc(0)),
        body(2, [1, 2], Buffer.alloc(0)),
      ]);
      const keys = [0, 2 ** 24, 2 ** 24 + 1, 2 ** 24 + 2, 2 ** 24 + 3];
      writeFileSync(path.replace('.rec', '.idx'), keys.map((key, i) => `${key}\t${offsets[i]}\n`).join(''));
      expect([...openDataset(path, read).labels()]).toEqual([0, 1]);
    }
  });

  it.each(['map', 'read'] as const)('may be larger than 4 GiB (%s)', (access) => {
    const { path } = writeRaw([payload(0, 0, png)]);
    const far = 5 * 2 ** 30;
    const fd = openSync(path, 'r+');
    writeSync(fd, encodeRecord(payload(1, 1, jpeg)), 0, undefined, far);
    closeSync(fd);
    writeFileSync(path.replace('.rec', '.idx'), `0\t0\n1\t${far}\n`);
    const set = openDataset(path, { access });
    expect([...set.labels()]).toEqual([0, 1]);
    expect(Buffer.from(set.encoded(1)).equals(jpeg)).toBe(true);
    rmSync(path);
  });

  it('hold Kanji-28', () => {
    const path = join(import.meta.dirname, '../../data/kanji28/train.rec');
    const set = openDataset(path, read);
    expect([set.size, set.numClasses, set.imageShape]).toEqual([82_916, 5000, [32, 32, 1]]);
    const labels = set.labels();
    expect(new Set(labels).size).toBe(5000);
    expect(set.column('label')?.every((text, i) => Number(text) === labels[i])).toBe(true);
    expect(new Set(set.column('family')).size).toBe(18);
    expect(new RecordReader(path).index.offsets).toEqual(
      new RecordReader(path, { idx: path.replace('.rec', '.idx') }).index.offsets,
    );
  });
});

describe('what is refused', () => {
  const openCut = (bytes: number) => {
    const path = writeSet('flat', [0, 1]);
    writeFileSync(path, readFileSync(path).subarray(0, -bytes));
    return () => openDataset(path, read);
  };

  it('a truncated .rec, at opening', () => {
    expect(openCut(8)).toThrow(
      /set\d+.rec at byte \d+: expected a record of \d+ bytes, but the file ends after \d+ of them: it is truncated/,
    );
    expect(openCut(8)).toThrow(DataError);
    expect(openCut(850)).toThrow(/.idx: key 1 points at byte \d+, but set\d+.rec has \d+ bytes/);
  });

  it('a truncated .rec without an .idx', () => {
    const path = writeSet('flat', [0, 1]);
    writeFileSync(path, readFileSync(path).subarray(0, -8));
    expect(() => new RecordReader(path)).toThrow(/it is truncated/);
  });

  it('an .idx that points past the end, or inside a record, or is no index', () => {
    const path = writeSet('flat', [0, 1]);
    const idx = path.replace('.rec', '.idx');
    writeFileSync(idx, '0\t0\n1\t999999\n');
    expect(() => openDataset(path, read)).toThrow(
      /key 1 points at byte 999999, but .* has \d+ bytes.*\n.*copy both files again/,
    );
    writeFileSync(idx, '0\t4\n');
    expect(() => openDataset(path, read)).toThrow(/at byte 4: expected the record magic 0xced7230a, got 0x[0-9a-f]{8}/);
    writeFileSync(idx, '0\t0\none\t7\n');
    expect(() => openDataset(path, read)).toThrow(/idx line 2: expected "key<TAB>byte offset", got "one\\t7"/);
    writeFileSync(idx, '0\t0\n0\t7\n');
    expect(() => openDataset(path, read)).toThrow(/expected each key once, got key 0 twice/);
  });

  it('the format before 2015', () => {
    const path = writeSet('flat', [0]);
    const bytes = readFileSync(path);
    bytes.writeUInt32LE(0x3ed7230a, 0);
    writeFileSync(path, bytes);
    expect(() => openDataset(path, read)).toThrow(/got 0x3ed7230a: this is the format before 2015/);
  });

  it('a part that is missing from a split record', () => {
    const split = encodeRecord(payload(0, 0, Buffer.concat([magicBytes, png])));
    const path = fresh();
    writeFileSync(path, Buffer.concat([split.subarray(0, 8 + 24), encodeRecord(payload(0, 1, png))]));
    expect(() => new RecordReader(path).payload(0)).toThrow(/at byte 32: expected part 2 or 3/);
    writeFileSync(path, split.subarray(8 + 24));
    writeFileSync(path.replace('.rec', '.idx'), '0\t0\n');
    expect(() => new RecordReader(path, { idx: path.replace('.rec', '.idx') }).record(0)).toThrow(
      /got part 3 of a split one/,
    );
  });

  it.each([-1, 0.5, Number.NaN, 2])('label %f of 2 classes, by the record’s key', (label) => {
    const { path } = writeRaw([payload(0, 0, png), payload(label, 1, png)]);
    writeFileSync(path.replace('.rec', '.property'), '2,32,32\n');
    const set = openDataset(path, read);
    expect(() => set.label(1)).toThrow(`key 1: expected a label in [0, 2), got ${label}`);
    expect(() => set.image(2)).toThrow(ArgumentRangeError);
  });

  it('a property file that contradicts the images', () => {
    const path = writeSet('flat', [0, 1]);
    const property = path.replace('.rec', '.property');
    writeFileSync(property, '2,112,112');
    expect(() => openDataset(path, read)).toThrow(/property says 112×112 pixels, but .* key 0 has 32×32/);
    writeFileSync(property, 'two,32,32');
    expect(() => openDataset(path, read)).toThrow(/expected "num_classes,height,width", got "two,32,32"/);
    writeFileSync(property, '20000000,32,32');
    expect(() => openDataset(path, read)).toThrow(/at most 16777216 classes/);
  });

  it('a header without its labels, and a payload without a header', () => {
    const short = Buffer.alloc(24);
    short.writeUInt32LE(9, 0);
    expect(() => new RecordReader(writeRaw([short]).path).record(0)).toThrow(/expected 9 labels \(36 bytes\)/);
    expect(() => new RecordReader(writeRaw([Buffer.alloc(4)]).path).record(0)).toThrow(
      /expected an image record header of 24 bytes, got a payload of 4/,
    );
  });

  it.each<[string, string, RegExp]>([
    [
      'a key twice',
      'key\ttier\n0\tA\n1\tB\n\n0\tC\n',
      /line 5: expected each key once, got key 0 of line 2 again\n {2}fix:/,
    ],
    ['a key that is no number', 'key\ttier\n0\tA\none\tB\n', /line 3: expected a whole number as key, got "one"/],
    ['a line without a key', 'tier\tkey\nA\t0\nB\n', /line 3: expected a whole number as key, got ""/],
    ['a column twice', 'key\ttier\ttier\n0\tA\tB\n1\tA\tB\n', /line 1: expected each column once, got "tier" twice/],
  ])('a .tsv with %s', (_, text, message) => {
    const path = writeSet('flat', [0, 1]);
    writeFileSync(path.replace('.rec', '.tsv'), text);
    const set = openDataset(path, read);
    expect(() => set.column('tier')).toThrow(DataError);
    expect(() => set.column('tier')).toThrow(new RegExp(`^set\\d+\\.tsv ${message.source}`));
  });

  it('but not the mark that some editors begin a text with', () => {
    const path = writeSet('flat', [0, 1]);
    writeFileSync(path.replace('.rec', '.tsv'), '\uFEFFkey\ttier\r\n0\tA\r\n1\tB\r\n');
    expect(openDataset(path, read).column('tier')).toEqual(['A', 'B']);
  });

  it.each<[string, object, RegExp]>([
    ['two channels', { channels: 2 }, /^openDataset: expected channels 1 \(grey\) or 3 \(RGB\), got 2/],
    ['an access of another kind', { access: 'mmap' }, /^openDataset: expected access 'map' or 'read', got 'mmap'/],
    ['a .tsv that is no path', { tsv: 5 }, /^openDataset: expected tsv, the path of a file, got 5/],
  ])('%s', (_, options, message) => {
    expect(() => openDataset(writeSet('flat', [0, 1]), options)).toThrow(ArgumentRangeError);
    expect(() => openDataset(writeSet('flat', [0, 1]), options)).toThrow(message);
  });

  it('a .tsv and a property file that are not there', () => {
    const path = writeSet('flat', [0, 1]);
    const set = openDataset(path, { ...read, tsv: '/nowhere/x.tsv' });
    expect(() => set.column('tier')).toThrow(
      /^\/nowhere\/x\.tsv: cannot be read: .*\n {2}fix: name a file that is there/,
    );
    expect(() => openDataset(path, { ...read, property: '/nowhere/p' })).toThrow(/^\/nowhere\/p: cannot be read: /);
  });

  it.each<[string, (writer: RecordWriter) => unknown, RegExp]>([
    ['no label', (writer) => writer.add(undefined as never, png), /labels, an array, got undefined/],
    ['a label that is a text', (writer) => writer.add('0' as never, png), /labels, an array, got '0'/],
    ['a second label that is none', (writer) => writer.add([0, Number.NaN], png), /finite numbers, got \[0, NaN\]/],
    ['no image', (writer) => writer.add(0, undefined as never), /the bytes of a PNG or JPEG, .* got undefined/],
  ])('%s for a writer', (_, add, message) => {
    const writer = new RecordWriter(fresh());
    expect(() => add(writer)).toThrow(ArgumentRangeError);
    expect(() => add(writer)).toThrow(message);
    writer.abort();
  });

  it('an unknown layout and no number of classes for a writer, before there is a file', () => {
    const before = readdirSync(folder).length;
    expect(() => new RecordWriter(fresh(), { layout: 'Face' as never })).toThrow(/layout 'face' or 'flat', got 'Face'/);
    expect(() => new RecordWriter(fresh(), { numClasses: 1.5 })).toThrow(/numClasses, an integer .* got 1\.5/);
    expect(readdirSync(folder)).toHaveLength(before);
  });

  it('an unknown key and a missing file', () => {
    const reader = new RecordReader(writeSet('flat', [0, 1]));
    expect(() => new RecordReader(fresh(), { idx: 7 as never })).toThrow(/^RecordReader: expected idx, the path of a/);
    expect(() => openDataset(writeSet('flat', [0]), read).read(0, new Uint8Array(9), 0)).toThrow(
      /^set\d+\.rec: expected a Uint8Array with \d+ bytes from offset 0, got Uint8Array of 9/,
    );
    expect(() => reader.recordAt(2)).toThrow(/^set\d+\.rec: expected a position in \[0, 2\), got 2/);
    expect(() => reader.record(9)).toThrow(/no record has key 9; keys run from 0 to 1/);
    expect(() => openDataset('/nowhere/train.rec', read)).toThrow(/\/nowhere\/train.rec: cannot be opened/);
  });
});

describe('the writer', () => {
  it('leaves nothing behind when it is aborted or fails', () => {
    const before = readdirSync(folder);
    const writer = new RecordWriter(fresh());
    writer.add(1, png);
    expect(() => writer.add(0, png)).toThrow(/ascending order/);
    expect(() => writer.add(1, readFileSync(import.meta.filename))).toThrow(/expected a PNG or a JPEG/);
    writer.abort();
    expect(() => new RecordWriter(fresh()).finish()).toThrow(/expected images/);
    expect(readdirSync(folder)).toEqual(before);
  });

  it('shows no file before it has finished', () => {
    const path = fresh();
    const writer = new RecordWriter(path);
    writer.add(0, png);
    expect(readdirSync(folder).filter((name) => path.endsWith(name))).toEqual([]);
    expect(writer.finish()).toEqual({ images: 1, numClasses: 1 });
    expect(() => writer.add(0, png)).toThrow(/a finished one/);
  });
});
