export type { AugmentOptions } from './augment.js';
export { type Dataset, type OpenDatasetOptions, openDataset, RecordDataset } from './dataset.js';
export { type Batch, BatchLoader, type BatchLoaderOptions } from './loader.js';
export { openPairSet, type PairSet } from './pairSet.js';
