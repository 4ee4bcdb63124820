import { basename } from 'node:path';
import { Command, Option } from 'commander';
import { openDataset, openPairSet } from '../data/index.js';
import { evaluate, loadBackbone, summaryTiers } from '../train/index.js';
import { deviceOption, path } from './options.js';
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
    .option('--run <dir>', 'a run folder; its newest checkpoint is used', path)
    .addOption(new Option('--checkpoint <file>', 'one checkpoint').argParser(path).conflicts('run'))
    .option(
      '--pairs <bin>',
      'a .bin pair file; may be given again',
      (file: string, all: string[]) => [...all, path(file)],
      [],
    )
    .option('--rec <file>', 'a RecordIO test set: TAR@FAR over all pairs', path)
    .option('--gallery <family>', "rank-1 against the images of one family, such as 'noto-sans-jp'")
    .option('--flip', 'adds the features of the mirrored image')
    .option('--pixels', 'also scores raw pixels')
    .addOption(deviceOption('where embeddings are computed: cpu, cuda, cuda:1 or auto').default('cpu'))
    .option('--json', 'machine-readable, on stdout')
    .action(async (options: Options, command: Command) => {
      const { run, checkpoint, rec, pairs, gallery, flip, pixels, device } = options;
      if (run === undefined && checkpoint === undefined)
        command.error('error: expected --run DIR or --checkpoint FILE, got neither');
      if (rec === undefined && pairs.length === 0) command.error('error: expected --rec FILE, --pairs FILE, or both');
      if (rec === undefined && (gallery !== undefined || pixels))
        command.error(`error: expected --rec FILE with --${pixels ? 'pixels' : 'gallery'}, which is of its images`);
      const shape = rec === undefined ? openPairSet(pairs[0] as string).imageShape : shapeOf(rec);
      const { backbone, step } = loadBackbone(
        { run, checkpoint },
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
                file: basename(file),
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
