export { fuseFlip } from './embeddings.js';
export { type IdentificationResult, identify, type WrongNeighbour } from './identification.js';
export { type Neighbours, nearest } from './nearest.js';
export { type AllPairsResult, verifyAllPairs } from './pairs.js';
export { evaluateTiers, type TierResult } from './tiers.js';
export {
  aucOfPairs,
  pairDistances,
  rocOfPairs,
  tarAtFarIjb,
  type VerificationResult,
  verifyPairs,
} from './verification.js';
