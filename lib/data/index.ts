export type { AugmentOptions } from './augment.js';
export { type Dataset, type OpenDatasetOptions, openDataset, RecordDataset } from './dataset.js';
export { decodeImage, type ImageShape } from './decode.js';
export { type Batch, BatchLoader, type BatchLoaderOptions } from './loader.js';
export { openPairSet, type PairSet } from './pairSet.js';
export { writePairSet } from './pairWriter.js';
export type { ImageRecord } from './recordFormat.js';
export { RecordReader, type RecordReaderOptions } from './recordio.js';
export { RecordWriter, type RecordWriterOptions } from './recordWriter.js';
