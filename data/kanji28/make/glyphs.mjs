// Which characters a family draws, and the drawing of one glyph.
import { readdirSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { createCanvas, GlobalFonts } from '@napi-rs/canvas';
import * as fontkit from 'fontkit';

const require = createRequire(import.meta.url);
export const size = 32;
const fontSize = 26;

const isHan = (codePoint) => codePoint >= 0x4e00 && codePoint <= 0x9fff;

/**
 * Registers a family's files and returns code point → font alias. A family is cut into about 100 files whose stated
 * ranges promise more than they hold, so each file's own character map is read.
 */
export function openFamily({ name, weight }) {
  const folder = join(dirname(require.resolve(`@fontsource/${name}/package.json`)), 'files');
  const aliasOf = new Map();
  for (const file of readdirSync(folder).sort()) {
    if (!file.endsWith(`-${weight}-normal.woff2`)) continue;
    const path = join(folder, file);
    const characters = fontkit.openSync(path).characterSet.filter(isHan);
    if (characters.length === 0) continue;
    const alias = file.replace('.woff2', '');
    GlobalFonts.registerFromPath(path, alias);
    for (const codePoint of characters) if (!aliasOf.has(codePoint)) aliasOf.set(codePoint, alias);
  }
  return aliasOf;
}

const context = createCanvas(size, size).getContext('2d', { willReadFrequently: true });

/** Grey [32, 32], white on black, the glyph's bounding box in the middle; undefined where nothing was drawn. */
export function drawGlyph(codePoint, alias) {
  const text = String.fromCodePoint(codePoint);
  context.fillStyle = '#000';
  context.fillRect(0, 0, size, size);
  context.fillStyle = '#fff';
  context.textBaseline = 'alphabetic';
  context.font = `${fontSize}px "${alias}"`;
  const box = context.measureText(text);
  const x = (size - (box.actualBoundingBoxRight - box.actualBoundingBoxLeft)) / 2;
  const y = (size + box.actualBoundingBoxAscent - box.actualBoundingBoxDescent) / 2;
  context.fillText(text, x, y);
  const { data } = context.getImageData(0, 0, size, size);
  const grey = Uint8Array.from({ length: size * size }, (_, i) => data[4 * i]);
  return grey.some((value) => value > 0) ? grey : undefined;
}
