// Which rows docs/benchmarks.svg shows; it carries their fingerprint, so that a check needs no drawing library.
import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';

/** The newest rows of `scale`, one a peer and number of classes. */
export function scaleRows(rows) {
  const found = new Map();
  for (const row of rows) if (row.bench === 'scale') found.set(`${row.peer} ${row.C}`, row);
  const newest = [...found.values()].sort((a, b) => a.C - b.C);
  return newest.filter((row) => row.ms !== undefined);
}

export const fingerprint = (rows) =>
  createHash('sha256')
    .update(JSON.stringify(scaleRows(rows)))
    .digest('hex');

export const isDrawnFrom = (file, rows) =>
  existsSync(file) && readFileSync(file, 'utf8').includes(`<!-- rows ${fingerprint(rows)} -->`);
