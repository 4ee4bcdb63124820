export type { MarginHeadOptions } from './headOptions.js';
export type { HeadInspection, Histogram } from './inspection.js';
export { type HeadStepOptions, type HeadStepResult, MarginHead } from './marginHead.js';
export { sampledClasses, shardOf } from './sampling.js';
export { nextAdacosScale, nextNorms, nextT, plusMargins, type StateRule, stateRules } from './state.js';
