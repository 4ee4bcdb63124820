export { type Config, type ConfigInput, configSchema, defineConfig, loadConfig, resolveConfig } from './config.js';
export {
  type ConformanceOptions,
  type ConformanceResult,
  type ConformanceRow,
  conformance,
  goldenCaseNames,
  type Measurement,
  type Measurements,
} from './conformance/index.js';
export {
  type Evaluation,
  type EvaluationRequest,
  evaluate,
  type PairScores,
  type SummaryTier,
  summaryTiers,
  type TierScores,
} from './evaluate.js';
export { inspectRun, median, type RunInspection } from './inspect.js';
export {
  buildBackbone,
  evaluateRun,
  loadBackbone,
  readRunConfig,
  type TrainedRun,
  type TrainOptions,
  train,
} from './run.js';
export { type RunFacts, type RunSummary, writeRunReport } from './runReport.js';
export type { StepParts, TrainingHead } from './step.js';
export { type FitResult, readMetrics, type StepMetrics, Trainer, type TrainerOptions } from './trainer.js';
