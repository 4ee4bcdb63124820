/** Verification of pairs: folds, thresholds, rates and the ROC, which are computed in float64 on the host. */
import { aucOfPairs, pairDistances, rocOfPairs, tarAtFarIjb, verifyPairs } from '../../eval/index.js';
import { type GoldenCase, type GoldenFile, NotRun } from './goldenFile.js';
import { type Measurements, worst } from './measure.js';

/** The grids that verifyPairs has. */
const grids = { thresholds_acc: 'arange(0,4,0.01)', thresholds_val: 'arange(0,4,0.001)' };

export function verificationCases(file: GoldenFile): GoldenCase[] {
  for (const [key, grid] of Object.entries(grids)) {
    const asked = file.hp[key];
    if (asked !== undefined && asked !== grid) throw new NotRun(`${key} ${asked} is not the grid ${grid}`);
  }
  const { name, family, source } = file;
  return [{ name, family, source, precisions: ['float64'], measure: () => measureVerification(file) }];
}

function measureVerification(file: GoldenFile): Measurements {
  const same = file.values('issame');
  const distances = pairDistances(file.values('embeddings'), file.shape('embeddings')[1]);
  const options = { folds: file.number('folds', 10), far: file.number('far_target', 1e-3) };
  const { accuracy, tarAtFar, grid } = verifyPairs(distances, same, options);
  // The ROC depends on exact ties, so it is of the file's own distances.
  const roc = rocOfPairs(file.values('distance'), same);
  // Called after the rate: val_std_far_at_1e-3.
  const rates = [...file.tensors.keys()].find((key) => key.startsWith('val_std_far_at_')) ?? 'val_std_far_at_1e-3';
  const targets = [...file.values('far_targets')];
  const compared: Record<string, [ArrayLike<number>, string]> = {
    distances: [distances, 'distance'],
    folds: [accuracy.perFold, 'accuracy_per_fold'],
    accuracy: [[accuracy.mean, accuracy.std], 'accuracy_mean_std'],
    tar: [[tarAtFar.tar, tarAtFar.std, tarAtFar.far], rates],
    tpr: [grid.tpr, 'tpr'],
    fpr: [grid.fpr, 'fpr'],
    roc_far: [roc.map(({ far }) => far), 'roc_fpr'],
    roc_tar: [roc.map(({ tar }) => tar), 'roc_tpr'],
    auc: [[aucOfPairs(file.values('distance'), same)], 'auc'],
    tar_ijb: [tarAtFarIjb(roc, targets).map(({ tar }) => tar), 'tar_at_far_ijb'],
  };
  return Object.fromEntries(
    Object.entries(compared).map(([key, [ours, theirs]]) => [
      `${key}_abs`,
      { error: worst(ours, file.values(theirs)), allowed: 1e-12 },
    ]),
  );
}
