import { Command } from 'commander';
import type { Histogram } from '../heads/index.js';
import { inspectRun, median } from '../train/index.js';
import { count, path } from './options.js';
import { table } from './tables.js';

interface Options {
  readonly run: string;
  readonly rec?: string;
  readonly images: number;
  readonly json?: boolean;
}

/** A line a bin that is not empty, the longest bar forty characters. */
function bars({ edges, counts }: Histogram): string[][] {
  const most = Math.max(1, ...counts);
  return counts.flatMap((count, i) =>
    count > 0
      ? [[`${edges[i]}°–${edges[i + 1]}°`, String(count), '█'.repeat(Math.ceil((40 * count) / most)).padEnd(40)]]
      : [],
  );
}

export function inspectCommand(): Command {
  return new Command('inspect')
    .description("angles, norms, hard negatives and centers of a trained run's head, on its training images")
    .requiredOption('--run <dir>', 'a run folder; its newest checkpoint is used', path)
    .option('--rec <file>', 'another RecordIO set of the same classes', path)
    .option('--images <n>', 'how many images, drawn at random', count, 2048)
    .option('--json', 'machine-readable, on stdout')
    .action(async ({ run, rec, images, json }: Options) => {
      const seen = await inspectRun(run, {
        ...(rec === undefined ? {} : { rec }),
        images,
        onBad: (error) => process.stderr.write(`${(error as Error).message}\n`),
      });
      if (json) {
        console.log(JSON.stringify({ ...seen, subCenters: Object.fromEntries(seen.subCenters) }, null, 2));
        return;
      }
      const percent = (x: number) => `${(100 * x).toFixed(2)} %`;
      const facts: [string, string][] = [
        ['method, step', `${seen.method}, ${seen.step}`],
        ['images with a class', String(seen.labelled)],
        ['median angle to the own class', `${median(seen.targetAngles).toFixed(1)}°`],
        ['median angle to the nearest other', `${median(seen.nearestAngles).toFixed(1)}°`],
        [
          'feature norm, mean (least … largest)',
          `${seen.norms.mean.toFixed(2)} (${seen.norms.least.toFixed(2)} … ${seen.norms.largest.toFixed(2)})`,
        ],
        ['negatives above the target’s φ', percent(seen.hardShare)],
        ['images that have such', percent(seen.hardRows)],
        ...(seen.K > 1
          ? ([['images off their class’s main center', percent(seen.offCenter / Math.max(1, seen.labelled))]] as [
              string,
              string,
            ][])
          : []),
        ...Object.entries(seen.state).map(([name, value]): [string, string] => [
          name,
          Number.isInteger(value) ? String(value) : value.toPrecision(6),
        ]),
      ];
      console.log(table(facts));
      console.log(`\nangles to the own class\n${table(bars(seen.targetAngles))}`);
      console.log(`\nangles to the nearest other class\n${table(bars(seen.nearestAngles))}`);
    });
}
