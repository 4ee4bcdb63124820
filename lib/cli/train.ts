import { Command, Option } from 'commander';
import { lockFolder } from '../io/index.js';
import { type Config, evaluateRun, loadConfig, train, writeRunReport } from '../train/index.js';
import { interruptSignal } from './interrupt.js';
import { deviceOption, path } from './options.js';
import { duration, Progress } from './progress.js';
import { evaluationTable } from './tables.js';

interface Options {
  readonly out?: string;
  readonly device?: string;
  readonly resume?: boolean;
  readonly overwrite?: boolean;
  readonly json?: boolean;
}

export function trainCommand(): Command {
  return new Command('train')
    .description('trains from a .ts, .json or .yaml configuration, then evaluates and writes a report')
    .argument('<config>', 'the configuration file', path)
    .option('--out <dir>', 'the run folder, instead of the one in the configuration', path)
    .addOption(deviceOption("cpu, cuda, cuda:1 or auto, instead of the configuration's"))
    .option('--resume', 'goes on from the newest whole checkpoint')
    .addOption(new Option('--overwrite', 'removes a run that is already in the folder').conflicts('resume'))
    .option('--json', 'prints the summary as JSON on stdout')
    .action(async (file: string, options: Options) => {
      const loaded = await loadConfig(file);
      const { out = loaded.out, device = loaded.device } = options;
      const config: Config = { ...loaded, out, device };
      const progress = new Progress();
      const { signal, release } = interruptSignal(() =>
        progress.note('stopping after this step; once more ends at once'),
      );
      const holder = {};
      let giveBack = () => {};
      try {
        giveBack = lockFolder(out, holder); // to the end of the report: a run that starts meanwhile is another's
        const run = await train(config, {
          holder,
          resume: options.resume ?? false,
          overwrite: options.overwrite ?? false,
          signal,
          onMetrics: (metrics) => progress.step(metrics),
          onNote: (message) => progress.note(message),
        });
        release(); // all is saved: Ctrl-C ends at once from here
        progress.note(
          `trained ${run.steps} steps in ${duration(run.seconds)}: ${run.imagesPerSecond.toFixed(0)} images/s, ${(100 * run.headShare).toFixed(0)}% of it in the head${config.backbone.precision === 'bfloat16' ? ', the backbone in bfloat16' : ''}`,
        );
        const evaluation = await evaluateRun(run, (message) => progress.note(message));
        const { summary, reportFile, summaryFile } = writeRunReport(run, evaluation);
        if (options.json) console.log(JSON.stringify(summary, null, 2));
        else if (evaluation) console.log(evaluationTable(evaluation));
        progress.note(`wrote ${summaryFile} and ${reportFile}`);
      } finally {
        progress.end();
        giveBack();
        release();
      }
    });
}
