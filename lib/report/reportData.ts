/** Everything a report shows. Numbers that were not measured may be NaN or null and appear as a dash; lists may be empty. */
export interface ReportData {
  title: string;
  /** A date and time, shown as given. */
  generatedAt: string;
  /** Shown as indented JSON. */
  config: unknown;
  /** What the run depended on: node, cpu, isa, threads, oneDNN, … */
  environment: Record<string, string>;
  summary: ReportSummary;
  /** One entry a logged step. */
  metrics: readonly StepMetrics[];
  tiers: readonly TierReport[];
  /** Other ways to score the same tiers, such as raw pixels or plain softmax. */
  baselines: readonly BaselineReport[];
}

export interface ReportSummary {
  trainSeconds: number;
  imagesPerSecond: number;
  epochs: number;
  steps: number;
  images: number;
  identities: number;
  parameters: number;
  /** Share of the step's time that the head takes, 0 … 1. */
  headShare: number;
}

export interface StepMetrics {
  step: number;
  epoch: number;
  loss: number;
  lr: number;
  /** Top-1 over the training classes, 0 … 1. */
  accuracy: number;
  imagesPerSecond: number;
  headShare: number;
}

/** TAR at a FAR; both are shares, 0 … 1. */
export interface RocPoint {
  far: number;
  tar: number;
}

export interface BaselineReport {
  name: string;
  /** Matched with the report's tiers by name. */
  tiers: readonly { name: string; rank1: number; tar: readonly RocPoint[] }[];
}

export interface TierReport {
  name: string;
  description: string;
  images: number;
  identities: number;
  genuinePairs: number;
  impostorPairs: number;
  /** Share of probes whose nearest gallery image shows the right identity. */
  rank1: number;
  tar: readonly (RocPoint & { threshold: number })[];
  auc: number;
  /** How pairs, thresholds, gallery and probes were chosen. */
  rule: string;
  accuracy?: { mean: number; std: number; rule: string; folds: readonly number[] };
  /** At most about 400 points, FAR ascending. */
  roc: readonly RocPoint[];
  /** Densities over the cosine, at the bins' centers. */
  histogram: { centers: readonly number[]; genuine: readonly number[]; impostor: readonly number[] };
  wrong: readonly WrongNeighbour[];
}

/** A probe whose nearest gallery image shows another identity. */
export interface WrongNeighbour {
  probe: ReportImage;
  neighbour: ReportImage;
  /** Cosine of probe and neighbour. */
  score: number;
  /** Cosine of the probe and its own identity's gallery image. */
  best: number;
}

export interface ReportImage {
  /** `data:image/png;base64,…`, as `encodePng` returns; the page loads no other kind. */
  png: string;
  label: number;
  caption: string;
}
