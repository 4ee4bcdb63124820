// Renders Kanji-28 from its font packages:  node make.mjs OUT_FOLDER
// The split of the characters and the order of the families are those of split.json and families.mjs.
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { crc32, deflateSync } from 'node:zlib';
import { createJiti } from 'jiti';
import { families } from './families.mjs';
import { drawGlyph, openFamily, size } from './glyphs.mjs';

const library = process.env.FLASHMARGIN_LIB ?? new URL('../../../lib/', import.meta.url).pathname;
const jiti = createJiti(import.meta.url);
const { RecordWriter } = await jiti.import(join(library, 'data/recordWriter.ts'));
const { writePairSet } = await jiti.import(join(library, 'data/pairWriter.ts'));
const { KeyedRandom } = await jiti.import(join(library, 'data/keyedRandom.ts'));

const out = process.argv[2];
if (out === undefined) {
  console.error('usage: node make.mjs OUT_FOLDER');
  process.exit(2);
}
mkdirSync(out, { recursive: true });

/** A grey PNG of 4 bits a pixel; `grey` [size, size] of 8 bits is rounded. */
function encodePng(grey) {
  const stride = 1 + size / 2; // one filter byte (0 = none) before each row
  const rows = new Uint8Array(size * stride);
  for (let y = 0; y < size; y++) {
    for (let x = 0; x < size; x += 2) {
      const level = (column) => Math.round(grey[y * size + column] / 17);
      rows[y * stride + 1 + x / 2] = (level(x) << 4) | level(x + 1);
    }
  }
  const chunk = (type, data) => {
    const bytes = Buffer.alloc(12 + data.length);
    bytes.writeUInt32BE(data.length, 0);
    bytes.write(type, 4, 'latin1');
    bytes.set(data, 8);
    bytes.writeUInt32BE(crc32(bytes.subarray(4, 8 + data.length)), 8 + data.length);
    return bytes;
  };
  const header = Buffer.from([0, 0, 0, size, 0, 0, 0, size, 4, 0, 0, 0, 0]);
  const signature = Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]);
  return Buffer.concat([
    signature,
    chunk('IHDR', header),
    chunk('IDAT', deflateSync(rows, { level: 9 })),
    chunk('IEND', Buffer.alloc(0)),
  ]);
}

/** One part of the set; returns its images as { label, tier, png }. */
function writePart(name, characters, roster) {
  const writer = new RecordWriter(join(out, `${name}.rec`));
  const table = ['key\tlabel\tcodepoint\tfamily\ttier'];
  const images = [];
  [...characters].forEach((character, label) => {
    const codePoint = character.codePointAt(0);
    for (const { family, aliasOf } of roster) {
      const alias = aliasOf.get(codePoint);
      const grey = alias === undefined ? undefined : drawGlyph(codePoint, alias);
      if (grey === undefined) continue;
      const png = encodePng(grey);
      const key = writer.add(label, png);
      table.push([key, label, `U+${codePoint.toString(16).toUpperCase()}`, family.name, family.tier].join('\t'));
      images.push({ label, tier: family.tier, png });
    }
  });
  writer.finish();
  writeFileSync(join(out, `${name}.tsv`), `${table.join('\n')}\n`);
  console.error(`${name}: ${images.length} images of ${[...characters].length} characters`);
  return images;
}

/** 10 folds of 300 same and 300 different pairs, drawn with a fixed seed. */
function writePairs(name, images, seed) {
  const random = new KeyedRandom().reset(seed, 0);
  const byLabel = groupByLabel(images);
  const labels = [...byLabel.keys()].filter((label) => byLabel.get(label).length > 1);
  const pick = (list) => list[random.below(list.length)];
  const drawPair = (isSame) => {
    const a = isSame ? pick(byLabel.get(pick(labels))) : pick(images);
    for (;;) {
      const b = isSame ? pick(byLabel.get(a.label)) : pick(images);
      if (isSame ? b !== a : b.label !== a.label) return [a.png, b.png];
    }
  };
  const same = Array.from({ length: 6000 }, (_, pair) => pair % 600 < 300);
  writePairSet(join(out, `${name}.bin`), same.flatMap(drawPair), same);
}

function groupByLabel(images) {
  const groups = new Map();
  for (const image of images) groups.set(image.label, [...(groups.get(image.label) ?? []), image]);
  return groups;
}

const split = JSON.parse(readFileSync(new URL('split.json', import.meta.url), 'utf8'));
const roster = families.map((family) => ({ family, aliasOf: openFamily(family) }));
writePart(
  'train',
  split.train,
  roster.filter(({ family }) => family.tier === 'A'),
);
const test = writePart('test', split.test, roster);
writePairs(
  'pairs_seen_fonts',
  test.filter(({ tier }) => tier === 'A'),
  1,
);
writePairs(
  'pairs_unseen_fonts',
  test.filter(({ tier }) => tier !== 'C'),
  2,
);
