/** Which margin a golden file of a head means: by family and source, from its hyper-parameters and shapes. */
import {
  type Annealing,
  adacos,
  adacosScale,
  adaface,
  annealing,
  arcface,
  combined,
  cosface,
  curricularface,
  elasticface,
  featureNormScale,
  filteredNegatives,
  fixedAdacosScale,
  type Margin,
  type MarginOptions,
  magface,
  mvsoftmax,
  softmax,
  sphereface,
} from '../../margins/index.js';
import { type GoldenFile, NotRun } from './goldenFile.js';

const radians = (degrees: number): number => (degrees * Math.PI) / 180;

/** What each code's ArcFace does beside cos(θ + m). */
const angular = {
  insightface: { gradient: 'detached', overflow: 'none' },
  mxnet: { overflow: 'none' },
  curricularface: { overflow: 'hard' },
  elasticface: { overflow: 'none' },
  pml: { overflow: 'hard' },
  pytorchAdacos: { overflow: 'none', targetEpsilon: 1e-7 },
  adaface: { overflow: 'clamp', cosineEpsilon: 1e-4, angleEpsilon: 1e-4 },
  opensphere: {
    gradient: 'detached',
    overflow: 'clamp',
    cosineEpsilon: 1e-5,
    angleEpsilon: 1e-5,
    // biome-ignore lint/suspicious/noApproximativeNumericConstant: the source's own rounding
    angleLimit: 3.14159,
    projectWeightGradient: false,
  },
} as const satisfies Record<string, MarginOptions<'arcface'>>;

/** OpenSphere, where there is no angle to overflow. */
const opensphere = { gradient: 'detached', cosineEpsilon: 1e-5, projectWeightGradient: false } as const;

type MarginOf = (file: GoldenFile, numClasses: number) => Margin;

const arc =
  (options: MarginOptions<'arcface'>, unit: (m: number) => number = (m) => m): MarginOf =>
  (file) =>
    arcface({ ...options, scale: file.number('s'), margin: unit(file.number('m')), ...filterOf(file) });
const cos =
  (options: MarginOptions<'cosface'> = {}): MarginOf =>
  (file) =>
    cosface({ ...options, scale: file.number('s'), margin: file.number('m'), ...filterOf(file) });

/** SV-X-Softmax: a margin only where cos θ > 0, or an unguarded one. */
const easyOrNone = ({ hp }: GoldenFile) => (hp.easy_margin ? 'easy' : 'none');

/** insightface's filter of negatives, where the file has one. */
const filterOf = (file: GoldenFile) =>
  file.hp.filter ? { negatives: filteredNegatives({ above: file.number('filter') }) } : {};

const threeMargins = (file: GoldenFile, subCenters = 1): Margin =>
  combined({
    ...angular.mxnet,
    scale: file.number('s'),
    m1: file.number('m1'),
    m2: file.number('m2'),
    m3: file.number('m3'),
    ...filterOf(file),
    ...(subCenters > 1 ? { subCenters } : {}),
  });

/** insightface's CombinedMarginLoss never combines: an angle, or a cosine alone, which leaves m1 and m2 out. */
function insightfaceCombined(file: GoldenFile): Margin {
  const [scale, m1, m2, m3] = [file.number('s'), file.number('m1'), file.number('m2'), file.number('m3')];
  if (m3 > 0) return cosface({ scale, margin: m3, ...filterOf(file) });
  if (m1 !== 1 || m3 !== 0) throw new NotRun(`its source refuses m1 ${m1}, m2 ${m2}, m3 ${m3}`);
  return arcface({ ...angular.insightface, scale, margin: m2, ...filterOf(file) });
}

const annealedSphere =
  (lambda: number | Annealing, scale: (file: GoldenFile) => Margin<'sphereface'>['scale']): MarginOf =>
  (file) =>
    sphereface({ gradient: 'exact', lambda, scale: scale(file), margin: file.number('m') });

/** K of a weight [C, K, D]. */
const centersOf = (file: GoldenFile): number => (file.shape('W').length === 3 ? file.shape('W')[1] : 1);

const scaleOf = (file: GoldenFile): number => file.number('s');

/** By family, then by source. */
export const heads = {
  arcface: {
    insightface: arc(angular.insightface),
    insightface_mxnet: arc(angular.mxnet),
    curricularface_repo: arc(angular.curricularface),
    elasticface_repo: arc(angular.elasticface),
    pml: arc(angular.pml, radians),
    pytorch_adacos: arc(angular.pytorchAdacos),
    adaface_repo: arc(angular.adaface),
    opensphere: arc(angular.opensphere),
    svx: (file) => arcface({ scale: file.number('s'), margin: file.number('m'), overflow: easyOrNone(file) }),
    // Where θ + m would pass π its margin is switched off.
    facexzoo: (file) =>
      arcface({
        scale: file.number('s'),
        margin: file.number('m'),
        overflow: 'easy',
        easyAbove: -Math.cos(file.number('m')),
      }),
  },
  cosface: {
    insightface: cos(),
    insightface_mxnet: cos(),
    curricularface_repo: cos(),
    elasticface_repo: cos(),
    pml: cos(),
    pytorch_adacos: cos(),
    facexzoo: cos(),
    adaface_repo: cos({ cosineEpsilon: angular.adaface.cosineEpsilon }),
    opensphere: cos(opensphere),
    svx: (file) =>
      cosface({
        scale: file.number('s'),
        margin: file.number('m'),
        ...(file.hp.easy_margin ? { overflow: 'easy' } : {}),
      }),
  },
  combined: {
    insightface_torch: insightfaceCombined,
    insightface_mxnet: (file) => threeMargins(file),
  },
  sphereface: {
    opensphere: (file) => sphereface({ ...opensphere, scale: file.number('s'), margin: file.number('m') }),
    clcarwin: annealedSphere(annealing({ base: 1500, gamma: 0.1 }), featureNormScale),
    svx: annealedSphere(annealing({ gamma: 1e-4, power: 2 }), scaleOf),
    pml_asoftmax: annealedSphere(0, featureNormScale),
    // cos(m·θ), not made monotone: what is called combined here.
    pytorch_adacos: (file) =>
      combined({ ...angular.pytorchAdacos, scale: file.number('s'), m1: file.number('m'), m2: 0, m3: 0 }),
  },
  adacos: {
    fixed: (_, numClasses) => softmax({ scale: fixedAdacosScale(numClasses) }),
    dynamic: () => adacos({ scale: adacosScale() }),
  },
  adam_softmax: { facexzoo: (file) => cosface({ scale: file.number('s') }) },
  mv: {
    svx: (file) =>
      mvsoftmax({
        scale: file.number('s'),
        margin: file.number('m'),
        variant: file.hp.fc_type === 'MV-AM' ? 'am' : 'arc',
        t: file.number('t'),
        overflow: easyOrNone(file),
      }),
    facexzoo: (file) => {
      const [scale, margin, weight] = [file.number('s'), file.number('m'), file.number('mv_weight')];
      const variant = file.hp.is_am ? 'am' : 'arc';
      return mvsoftmax({ scale, margin, variant, t: weight - 1, easyAbove: variant === 'am' ? margin : 0 });
    },
  },
  curricularface: {
    official: (file) => curricularface({ scale: file.number('s'), margin: file.number('m'), t: file.number('t0', 0) }),
  },
  subcenter: {
    insightface_mxnet: (file) => threeMargins(file, centersOf(file)),
    pml: (file) =>
      arcface({
        ...angular.pml,
        scale: file.number('s'),
        margin: radians(file.number('m')),
        subCenters: centersOf(file),
      }),
  },
  magface: {
    official: (file) =>
      magface({
        scale: file.number('s'),
        lowerNorm: file.number('l_a'),
        upperNorm: file.number('u_a'),
        lowerMargin: file.number('l_margin'),
        upperMargin: file.number('u_margin'),
        normPenalty: file.number('lambda_g'),
        overflow: file.hp.easy_margin ? 'easy' : 'hard',
      }),
  },
  elasticface: {
    official: (file) =>
      elasticface({
        scale: file.number('s'),
        margin: file.number('m'),
        variant: file.hp.kind === 'cos' ? 'am' : 'arc',
        deviation: file.number('std'),
        plus: file.hp.plus ? 'official' : 'none',
      }),
  },
  adaface: {
    official: (file) =>
      adaface({
        scale: file.number('s'),
        margin: file.number('m'),
        h: file.number('h'),
        normRate: file.number('t_alpha'),
        normMean: file.number('mean0', 20),
        normStd: file.number('std0', 100),
      }),
  },
} as const satisfies Record<string, Record<string, MarginOf>>;

/** A family of golden files that is about a head. */
export type HeadFamily = keyof typeof heads;

/** The margin that a file means. */
export function marginOf(file: GoldenFile, numClasses: number): Margin {
  const bySource: Record<string, MarginOf> = heads[file.family as HeadFamily];
  const known = bySource[file.sourceName];
  if (!known) throw new NotRun(`the conventions of ${file.sourceName} for ${file.family} are not known`);
  return known(file, numClasses);
}

/** A margin by the names that trajectories and Partial FC give it: insightface's arc or cos, or ArcFace's true gradient. */
export function namedMargin(name: string, file: GoldenFile): Margin {
  const known: Record<string, MarginOf> = {
    arc: heads.arcface.insightface,
    arcface_insightface: heads.arcface.insightface,
    arcface_true_gradient: heads.arcface.curricularface_repo,
    cos: heads.cosface.insightface,
    cosface_insightface: heads.cosface.insightface,
  };
  const margin = known[name];
  if (!margin) throw new NotRun(`the conventions of ${name} are not known`);
  return margin(file, 0);
}
