import { type Evaluation, type SummaryTier, summaryTiers } from '../train/index.js';

/** Columns padded to their widest cell, the first to the left, the others to the right. */
export function table(rows: readonly (readonly string[])[]): string {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => (row[column] ?? '').length)));
  return rows
    .map((row) =>
      row
        .map((cell, column) =>
          column === 0 ? cell.padEnd(widths[column] as number) : cell.padStart(widths[column] as number),
        )
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}

const share = (value: number | undefined) => (value === undefined ? '–' : value.toFixed(4));

function tierRows(tiers: readonly SummaryTier[], what: string): string[][] {
  return tiers.map(({ name, images, tar, rank1, rank5, auc }) => [
    `${what} ${name}`,
    String(images),
    ...tar.map((point) => share(point.tar)),
    share(rank1),
    share(rank5),
    auc.toFixed(6),
  ]);
}

/** An evaluation for people; every rule is named beneath. */
export function evaluationTable({ tiers, pairs, pixels }: Evaluation): string {
  const parts: string[] = [];
  if (tiers.length > 0) {
    const fars = (tiers[0] as (typeof tiers)[number]).pairs.tarAtFar.map(({ target }) => `TAR@${target}`);
    parts.push(
      table([
        ['tier', 'images', ...fars, 'rank-1', 'rank-5', 'AUC'],
        ...tierRows(summaryTiers(tiers), 'tier'),
        ...(pixels ? tierRows(summaryTiers(pixels), 'pixels') : []),
      ]),
    );
  }
  if (pairs.length > 0) {
    parts.push(
      table([
        ['pairs', 'accuracy', '±', `TAR@${(pairs[0] as (typeof pairs)[number]).tarAtFar.target}`],
        ...pairs.map(({ file, accuracy, tarAtFar }) => [
          file.split('/').at(-1) as string,
          accuracy.mean.toFixed(5),
          accuracy.std.toFixed(5),
          tarAtFar.tar.toFixed(4),
        ]),
      ]),
    );
  }
  const rules = new Set([
    ...tiers.flatMap(({ pairs: { rule }, identification }) => [rule, ...(identification ? [identification.rule] : [])]),
    ...pairs.flatMap(({ accuracy, tarAtFar }) => [`accuracy: ${accuracy.rule}`, `TAR of pairs: ${tarAtFar.rule}`]),
  ]);
  return [...parts, [...rules].map((rule) => `  ${rule}`).join('\n')].join('\n\n');
}
