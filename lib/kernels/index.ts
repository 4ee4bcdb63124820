/**
 * The head's stages one by one, for trainers of their own: typed arrays or tensors in, the same kind out.  Every function
 * has a twin on the calling thread (…Sync) and one for the gradient (…Backward).
 */
export type { FloatArray, Floats, Ints, Like, Rows } from './arrays.js';
export * from './binaryCrossEntropy.js';
export * from './cosineLogits.js';
export * from './curricularReweight.js';
export * from './marginTransform.js';
export * from './normalize.js';
export * from './normRegularizer.js';
export * from './softmaxCrossEntropy.js';
export * from './subCenterMax.js';
