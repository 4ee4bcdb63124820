import path from 'node:path';
import { Command } from 'commander';
import { openDataset, openPairSet } from '../data/index.js';
import { ConfigError } from '../errors.js';
import { evaluate, loadBackbone, summaryTiers } from '../train/index.js';
import { evaluationTable } from './tables.js';

interface Options {
  readonly run?: string;
  readonly checkpoint?: string;
  readonly pairs: readonly string[];
  readonly rec?: string;
  readonly gallery?: string;
  readonly flip?: boolean;
  readonly pixels?: boolean;
  readonly device: string;
  readonly json?: boolean;
}

export function evalCommand(): Command {
  return new Command('eval')
    .description('verification and identification of a trained backbone')
    .option('--run <dir>', 'a run folder; its newest checkpoint is used')
    .option('--checkpoint <file>', 'one checkpoint')
    .option(
      '--pairs <bin>',
      'a .bin pair file; may be given again',
      (file: string, all: string[]) => [...all, file],
      [],
    )
    .option('--rec <file>', 'a RecordIO test set: TAR@FAR over all pairs')
    .option('--gallery <family>', "rank-1 against the images of one family, such as 'noto-sans-jp'")
    .option('--flip', 'adds the features of the mirrored image')
    .option('--pixels', 'also scores raw pixels')
    .option('--device <device>', 'where embeddings are computed: cpu, cuda, cuda:1 or auto', 'cpu')
    .option('--json', 'machine-readable, on stdout')
    .action(async (options: Options) => {
      if ((options.run === undefined) === (options.checkpoint === undefined)) {
        throw new ConfigError(
          `eval: expected either --run DIR or --checkpoint FILE, got ${options.run ? 'both' : 'neither'}`,
          { code: 'ERR_FM_CONFIG' },
        );
      }
      if (options.rec === undefined && options.pairs.length === 0) {
        throw new ConfigError('eval: expected --rec FILE, --pairs FILE, or both', { code: 'ERR_FM_CONFIG' });
      }
      const shape =
        options.rec === undefined ? openPairSet(options.pairs[0] as string).imageShape : shapeOf(options.rec);
      const { rec, pairs, gallery, flip, pixels, device } = options;
      const { backbone, step } = loadBackbone(
        options,
        shape,
        (error) => process.stderr.write(`${(error as Error).message}\n`),
        device,
      );
      const evaluation = await evaluate(
        backbone,
        { ...(rec === undefined ? {} : { test: rec }), pairs, gallery, flip, pixels },
        { device, onNote: (message) => process.stderr.write(`${message}\n`) },
      );
      if (options.json) {
        console.log(
          JSON.stringify(
            {
              step,
              seconds: evaluation.seconds,
              tiers: summaryTiers(evaluation.tiers),
              ...(evaluation.pixels ? { pixels: summaryTiers(evaluation.pixels) } : {}),
              pairs: evaluation.pairs.map(({ file, accuracy, tarAtFar }) => ({
                file: path.basename(file),
                accuracy: { ...accuracy, perFold: [...accuracy.perFold], thresholds: [...accuracy.thresholds] },
                tarAtFar,
              })),
            },
            null,
            2,
          ),
        );
      } else console.log(evaluationTable(evaluation));
    });
}

function shapeOf(rec: string): readonly number[] {
  const dataset = openDataset(rec);
  try {
    return dataset.imageShape;
  } finally {
    dataset.close();
  }
}
