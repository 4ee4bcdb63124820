export { CenterLoss, type CenterLossOptions } from './center.js';
export { type ContrastiveOptions, type ContrastiveResult, contrastiveLoss } from './contrastive.js';
export { MetricHead, type MetricHeadOptions, type MetricLoss, type MetricStepResult } from './metricHead.js';
export {
  mineTriplets,
  type Triplet,
  type TripletMining,
  type TripletOptions,
  type TripletResult,
  tripletLoss,
} from './triplet.js';
