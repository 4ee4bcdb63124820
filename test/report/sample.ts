import { encodePng } from '../../lib/report/png.js';
import type { ReportData, TierReport } from '../../lib/report/reportData.js';

const picture = { png: encodePng(Uint8Array.of(0, 85, 170, 255), 2, 2, 1), label: 7, caption: 'U+672A · kiwi-maru' };

export const sampleTier: TierReport = {
  name: 'tier A',
  description: 'seen families',
  images: 1200,
  identities: 60,
  genuinePairs: 3000,
  impostorPairs: 40_000,
  rank1: 0.9524,
  tar: [
    { far: 1e-3, tar: 0.9123, threshold: 0.41 },
    { far: 1e-4, tar: 0.8042, threshold: 0.52 },
    { far: 1e-5, tar: 0.6, threshold: 0.6 },
  ],
  auc: 0.9987,
  rule: 'every pair of the tier; gallery noto-sans-jp',
  accuracy: { mean: 0.9811, std: 0.004, rule: 'LFW protocol over 6,000 pairs', folds: [0.975, 0.98, 0.99] },
  roc: [
    { far: 0, tar: 0.5 },
    { far: 1e-4, tar: 0.8042 },
    { far: 1e-3, tar: 0.9123 },
    { far: 1, tar: 1 },
  ],
  histogram: { centers: [-0.75, -0.25, 0.25, 0.75], genuine: [0, 0, 0.5, 1.5], impostor: [0, 1, 1, 0] },
  wrong: [{ probe: picture, neighbour: { ...picture, label: 9, caption: 'U+672B · yomogi' }, score: 0.71, best: 0.68 }],
};

export const sampleReport: ReportData = {
  title: 'a run',
  generatedAt: '2025-11-24 12:00 UTC',
  config: { head: { margin: 'arcface', scale: 24 } },
  environment: { node: 'v20', threads: '2' },
  summary: {
    trainSeconds: 739.4,
    imagesPerSecond: 1121,
    epochs: 5,
    steps: 810,
    images: 82_916,
    identities: 5000,
    parameters: 1_583_232,
    headShare: 0.172,
  },
  metrics: Array.from({ length: 30 }, (_, i) => ({
    step: 10 * i,
    epoch: i / 6,
    loss: 20 / (i + 1),
    lr: 0.1,
    accuracy: i / 30,
    imagesPerSecond: 1100 + i,
    headShare: 0.17,
  })),
  tiers: [sampleTier, { ...sampleTier, name: 'tier B', accuracy: undefined, rank1: 0.8 }],
  baselines: [{ name: 'raw pixels', tiers: [{ name: 'tier A', rank1: 0.97, tar: [{ far: 1e-3, tar: 0.404 }] }] }],
};
