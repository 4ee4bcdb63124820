export { dropout, prelu, relu } from './activations.js';
export { type BatchNormState, type BehindBatchNorm, batchNorm } from './batchNorm.js';
export { conv2d } from './conv2d.js';
export { cosineLogits } from './cosineLogits.js';
export { binaryCrossEntropy, softmaxCrossEntropy } from './crossEntropy.js';
export { squaredDistances } from './distances.js';
export { add, affine, cast, dot, imageToFloat, multiply, scale, sqrt, subtract } from './elementwise.js';
export { gatherRows, scatterAddRows } from './gather.js';
export { type MarginSoftmaxResult, marginLogits, marginSoftmax, negativeLse, targetCosines } from './marginSoftmax.js';
export {
  curricularReweight,
  type MarginTransformOpOptions,
  marginTransform,
  normRegularizer,
} from './marginTransform.js';
export { linear, matmul } from './matmul.js';
export { normalize, rowNorms } from './normalize.js';
export { flatten, globalAvgPool } from './pool.js';
export { logSoftmax, softmax } from './softmax.js';
export { subCenterMax } from './subCenterMax.js';
export { weightedSum } from './weightedSum.js';
