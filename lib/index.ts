/** flashmargin: margin-softmax training over very many classes. */
export { backward, backwardFrom, defineOp, noGrad, type OpDefinition } from './autograd.js';
export * as data from './data/index.js';
export { BatchLoader, openDataset, openPairSet } from './data/index.js';
export { setNumThreads } from './device.js';
export {
  ArgumentRangeError,
  ArgumentTypeError,
  ConfigError,
  DataError,
  DeviceError,
  DisposedError,
  FlashmarginError,
  NonFiniteError,
  ShapeError,
} from './errors.js';
export * as evaluation from './eval/index.js';
export * from './heads/index.js';
export * as io from './io/index.js';
export * as kernels from './kernels/index.js';
export * as losses from './losses/index.js';
export { CenterLoss, contrastiveLoss, MetricHead, tripletLoss } from './losses/index.js';
export * from './margins/index.js';
export * as nn from './nn/index.js';
export * as ops from './ops/index.js';
export { marginLogits, marginSoftmax, normalize, targetCosines } from './ops/index.js';
export * as optim from './optim/index.js';
export { Random } from './random.js';
export { type Dtype, keep, memory, ones, parameter, Tensor, tensor, tidy, zeros } from './tensor.js';
export * from './train/index.js';
