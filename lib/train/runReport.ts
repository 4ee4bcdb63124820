/** summary.json and report.html of a finished run. */
import path from 'node:path';
import { native } from '../binding.js';
import { openDataset } from '../data/index.js';
import { checkObject, checkPath, expected } from '../errors.js';
import { writeFileAtomically } from '../io/index.js';
import { encodePng, type ReportData, renderReport } from '../report/index.js';
import { type Config, resolveConfig } from './config.js';
import { type Evaluation, type SummaryTier, summaryTiers, type TierScores, tiersOfRun } from './evaluate.js';
import { lossTitle } from './lossConfig.js';
import { marginTitle } from './marginConfig.js';
import { readMetrics } from './trainer.js';

/** What is known of a run when its report is written. */
export interface RunFacts {
  readonly out: string;
  readonly config: Config;
  readonly steps: number;
  readonly seconds: number;
  readonly imagesPerSecond: number;
  readonly headShare: number;
  readonly parameters: number;
  readonly identities: number;
  readonly images: number;
}

const numbers = [
  'steps',
  'seconds',
  'imagesPerSecond',
  'headShare',
  'parameters',
  'identities',
  'images',
] as const satisfies readonly (keyof RunFacts)[];

export interface RunSummary extends RunFacts {
  readonly title: string;
  readonly finishedAt: string;
  readonly environment: Record<string, string>;
  readonly evaluationSeconds?: number;
  readonly tiers: readonly SummaryTier[];
  readonly pairs: readonly {
    readonly file: string;
    readonly accuracy: number;
    readonly std: number;
    readonly tarAt1e3: number;
    readonly folds: readonly number[];
  }[];
  readonly baselines: readonly { readonly name: string; readonly tiers: readonly SummaryTier[] }[];
}

function environment({ backbone: { precision } }: Config): Record<string, string> {
  const { isa, threads, onednn, cudaDevices, cuda } = native.status();
  return {
    node: process.version,
    platform: `${process.platform}-${process.arch}`,
    cpu: `${isa}, ${threads} threads`,
    convolutions: /^oneDNN \d/.test(onednn) ? onednn : `own (${onednn})`,
    cuda: cudaDevices > 0 ? `${cudaDevices} device(s)` : cuda,
    ...(precision === 'bfloat16' ? { backbone: 'bfloat16 activations, float32 weights' } : {}),
  };
}

/** Writes summary.json and report.html, with what there was of an evaluation. */
export function writeRunReport(
  facts: RunFacts,
  evaluation: Evaluation | undefined,
): { summary: RunSummary; summaryFile: string; reportFile: string } {
  checkObject('writeRunReport', 'a run, as train() returns it', facts);
  const { out } = facts;
  checkPath('writeRunReport', 'the folder of a run', out);
  const config = resolveConfig(facts.config, 'writeRunReport: config');
  for (const name of numbers)
    expected(typeof facts[name] === 'number', 'writeRunReport', `${name}, as train() returns it`, facts[name]);
  if (evaluation !== undefined) {
    const scored = Array.isArray(evaluation?.tiers) && Array.isArray(evaluation.pairs);
    expected(scored, 'writeRunReport', 'an evaluation, as evaluate() returns it', evaluation);
  }
  const others = (config.evaluation?.compareWith ?? []).flatMap((run) => tiersOfRun(run) ?? []);
  const summary: RunSummary = {
    title: `${config.loss ? lossTitle(config.loss) : marginTitle(config.margin, config.head.sampleRate)} on ${path.basename(path.dirname(path.resolve(config.data.train)))}`,
    ...facts,
    config,
    finishedAt: new Date().toISOString(),
    environment: environment(config),
    ...(evaluation ? { evaluationSeconds: evaluation.seconds } : {}),
    tiers: summaryTiers(evaluation?.tiers ?? []),
    pairs: (evaluation?.pairs ?? []).map(({ file, accuracy, tarAtFar }) => ({
      file: path.basename(file),
      accuracy: accuracy.mean,
      std: accuracy.std,
      tarAt1e3: tarAtFar.tar,
      folds: [...accuracy.perFold],
    })),
    baselines: [
      ...(evaluation?.pixels ? [{ name: 'raw pixels', tiers: summaryTiers(evaluation.pixels) }] : []),
      ...others,
    ],
  };
  const summaryFile = path.join(out, 'summary.json');
  const reportFile = path.join(out, 'report.html');
  const page = renderReport(reportData(summary, evaluation));
  writeFileAtomically(summaryFile, `${JSON.stringify(summary, null, 2)}\n`);
  writeFileAtomically(reportFile, page);
  return { summary, summaryFile, reportFile };
}

function reportData(summary: RunSummary, evaluation: Evaluation | undefined): ReportData {
  return {
    title: summary.title,
    generatedAt: summary.finishedAt,
    config: summary.config,
    environment: summary.environment,
    summary: { ...summary, trainSeconds: summary.seconds, epochs: summary.config.epochs },
    metrics: readMetrics(summary.out).filter(({ step }) => step <= summary.steps),
    tiers: evaluation ? tierReports(summary, evaluation) : [],
    baselines: summary.baselines.map(({ name, tiers }) => ({
      name,
      tiers: tiers.map((t) => ({ ...t, rank1: t.rank1 ?? Number.NaN })),
    })),
  };
}

function tierReports(summary: RunSummary, evaluation: Evaluation): ReportData['tiers'] {
  if (evaluation.test === undefined) return [];
  const dataset = openDataset(evaluation.test);
  try {
    const labels = dataset.labels();
    const column = (name: string) => dataset.column(name) ?? [];
    const [families, codepoints, tierNames] = [column('family'), column('codepoint'), column('tier')];
    const [height, width, channels] = dataset.imageShape;
    const picture = (row: number) => ({
      png: encodePng(dataset.image(row), width, height, channels),
      label: labels[row] as number,
      caption: [character(codepoints[row]), families[row]].filter(Boolean).join(' · ') || dataset.where(row),
    });
    return evaluation.tiers.map((tier) => {
      const scores = summary.tiers.find(({ name }) => name === tier.tier) as SummaryTier;
      const own = labels.filter((_, row) => (tierNames[row] ?? 'all') === tier.tier);
      return {
        name: tier.tier,
        description: describeTier(tier, families, tierNames),
        images: tier.images,
        identities: new Set(own).size,
        genuinePairs: tier.pairs.genuinePairs,
        impostorPairs: tier.pairs.impostorPairs,
        rank1: scores.rank1 ?? Number.NaN,
        tar: scores.tar,
        auc: tier.pairs.auc,
        rule: [tier.pairs.rule, tier.identification?.rule].filter(Boolean).join('; '),
        accuracy: pairAccuracy(tier.tier, evaluation),
        roc: tier.pairs.roc.map(({ far, tar }) => ({ far, tar })),
        histogram: densities(tier.pairs.histograms),
        wrong: (tier.identification?.wrong ?? [])
          .filter(({ score, correctScore }) => score > correctScore)
          .slice(0, 12)
          .map(({ probe, gallery, score, correctScore }) => ({
            probe: picture(probe),
            neighbour: picture(gallery),
            score,
            best: correctScore,
          })),
      };
    });
  } finally {
    dataset.close();
  }
}

/** Kanji-28's pair files belong to tiers by their names. */
function pairAccuracy(tier: string, { pairs }: Evaluation) {
  const wanted = ({ A: 'pairs_seen_fonts', B: 'pairs_unseen_fonts', all: '' } as Record<string, string>)[tier];
  const found = wanted === undefined ? undefined : pairs.find(({ file }) => path.basename(file).startsWith(wanted));
  return (
    found && {
      mean: found.accuracy.mean,
      std: found.accuracy.std,
      rule: `${path.basename(found.file)}: ${found.accuracy.rule}`,
      folds: [...found.accuracy.perFold],
    }
  );
}

function describeTier({ tier }: TierScores, families: readonly string[], tiers: readonly string[]): string {
  const own = [...new Set(families.filter((_, row) => tiers[row] === tier))].sort();
  return own.length > 0 ? `${own.length} families: ${own.join(', ')}` : 'the whole test set';
}

function densities({ genuine, impostor }: { genuine: Float64Array; impostor: Float64Array }) {
  const bars = genuine.length;
  const width = 2 / bars;
  return {
    centers: Array.from({ length: bars }, (_, i) => -1 + (i + 0.5) * width),
    genuine: Array.from(genuine, (share) => share / width),
    impostor: Array.from(impostor, (share) => share / width),
  };
}

/** 'U+4E00' → '一 U+4E00': the code point is for where no font has the character. */
function character(codepoint: string | undefined): string {
  const value = Number.parseInt((codepoint ?? '').replace(/^U\+/i, ''), 16);
  return Number.isFinite(value) ? `${String.fromCodePoint(value)} ${codepoint}` : '';
}
