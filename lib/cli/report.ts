import { Command } from 'commander';
import { openDataset } from '../data/index.js';
import { evaluate, loadBackbone, readMetrics, readRunConfig, writeRunReport } from '../train/index.js';
import { path } from './options.js';

export function reportCommand(): Command {
  return new Command('report')
    .description('evaluates a run again and writes its summary.json and report.html')
    .argument('<run>', 'the run folder', path)
    .option('--json', 'prints the summary as JSON on stdout')
    .action(async (run: string, { json }: { json?: boolean }) => {
      const config = readRunConfig(run);
      const dataset = openDataset(config.data.train);
      const { imageShape, numClasses, size } = dataset;
      dataset.close();
      const { backbone, step } = loadBackbone({ run }, imageShape, (error) =>
        process.stderr.write(`${(error as Error).message}\n`),
      );
      const evaluation =
        config.evaluation &&
        (await evaluate(backbone, config.evaluation, { onNote: (message) => process.stderr.write(`${message}\n`) }));
      // A run that was killed logged more steps than its checkpoint has.
      const metrics = readMetrics(run).filter((line) => line.step <= step);
      const seconds = metrics.at(-1)?.seconds ?? 0;
      const facts = {
        out: run,
        config,
        steps: step,
        seconds,
        imagesPerSecond: seconds > 0 ? (step * config.batchSize) / seconds : 0,
        headShare: metrics.length > 0 ? metrics.reduce((sum, m) => sum + m.headShare, 0) / metrics.length : 0,
        parameters: backbone.parameterCount(),
        identities: numClasses,
        images: size,
      };
      const { summary, summaryFile, reportFile } = writeRunReport(facts, evaluation);
      if (json) console.log(JSON.stringify(summary, null, 2));
      process.stderr.write(`wrote ${summaryFile} and ${reportFile}\n`);
    });
}
