export { dropout, prelu, relu } from './activations.js';
export { type BatchNormState, batchNorm } from './batchNorm.js';
export { conv2d } from './conv2d.js';
export { add, imageToFloat, multiply, scale } from './elementwise.js';
export { type MarginSoftmaxResult, marginLogits, marginSoftmax, negativeLse, targetCosines } from './marginSoftmax.js';
export { linear, matmul } from './matmul.js';
export { normalize } from './normalize.js';
export { flatten, globalAvgPool } from './pool.js';
