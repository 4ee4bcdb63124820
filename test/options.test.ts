/** What no operation knows is an error that names the operation, and so is what is not an object or a tensor at all. */
import { describe, expect, it } from 'vitest';
import {
  arcface,
  CenterLoss,
  contrastiveLoss,
  FlashmarginError,
  kernels,
  losses,
  MarginHead,
  MetricHead,
  marginLogits,
  marginSoftmax,
  nn,
  ops,
  resolveConfig,
  softmax,
  tensor,
  tripletLoss,
} from '../lib/index.js';

const values = () => new Float32Array(6).fill(0.3);
const labels = new Int32Array(2);
const matrix = () => tensor(values(), [2, 3]);
const head = () => new MarginHead({ numClasses: 3, embeddingSize: 3, onAdvice: () => {} });
const unknown = { nosuch: 1 } as never;

describe('an option that is not there', () => {
  it.each<[string, () => unknown]>([
    ['normalize', () => kernels.normalizeSync(values(), unknown)],
    ['normalizeBackward', () => kernels.normalizeBackwardSync(values(), values(), new Float32Array(2), unknown)],
    ['cosineLogits', () => kernels.cosineLogitsSync(values(), values(), unknown)],
    ['cosineLogitsBackward', () => kernels.cosineLogitsBackwardSync(values(), values(), values(), unknown)],
    ['marginTransform', () => kernels.marginTransformSync(values(), labels, arcface(), unknown)],
    [
      'marginTransformBackward',
      () => kernels.marginTransformBackwardSync(values(), values(), labels, arcface(), unknown),
    ],
    ['subCenterMax', () => kernels.subCenterMaxSync(values(), 1, unknown)],
    ['subCenterMaxBackward', () => kernels.subCenterMaxBackwardSync(values(), labels, 1, unknown)],
    ['curricularReweight', () => kernels.curricularReweightSync(values(), labels, unknown)],
    ['curricularReweightBackward', () => kernels.curricularReweightBackwardSync(values(), values(), labels, unknown)],
    ['softmaxCrossEntropy', () => kernels.softmaxCrossEntropySync(values(), labels, unknown)],
    ['softmaxCrossEntropyBackward', () => kernels.softmaxCrossEntropyBackwardSync(values(), labels, unknown)],
    ['binaryCrossEntropy', () => kernels.binaryCrossEntropySync(values(), labels, unknown)],
    ['binaryCrossEntropyBackward', () => kernels.binaryCrossEntropyBackwardSync(values(), labels, unknown)],
    ['normRegularizerBackward', () => kernels.normRegularizerBackwardSync(values(), labels, softmax(), unknown)],
    ['marginSoftmax', () => marginSoftmax(matrix(), matrix(), labels, arcface(), unknown)],
    ['marginLogits', () => marginLogits(matrix(), matrix(), labels, arcface(), unknown)],
    ['softmaxCrossEntropy', () => ops.softmaxCrossEntropy(matrix(), labels, unknown)],
    ['tripletLoss', () => tripletLoss(matrix(), labels, unknown)],
    ['mineTriplets', () => [...losses.mineTriplets(new Float32Array(4), labels, unknown)]],
    ['contrastiveLoss', () => contrastiveLoss(matrix(), labels, unknown)],
    ['CenterLoss', () => new CenterLoss({ numClasses: 2, embeddingSize: 3, nosuch: 1 } as never)],
    ['GroupFace', () => new nn.GroupFace({ features: 3, nosuch: 1 } as never)],
    ['MetricHead', () => new MetricHead({ loss: { kind: 'triplet' }, nosuch: 1 } as never)],
    ['MetricHead', () => new MetricHead({ loss: { kind: 'triplet', nosuch: 1 } as never })],
    ['MarginHead', () => new MarginHead({ numClasses: 2, embeddingSize: 3, nosuch: 1 } as never)],
    ['MarginHead.step', () => head().stepSync(values(), labels, { lr: 1, nosuch: 1 } as never)],
  ])('of %s', (operation, call) => {
    expect(call).toThrow(FlashmarginError);
    expect(call).toThrow(new RegExp(`^${operation.replace('.', '\\.')}: expected options .*, got 'nosuch'`));
  });
});

describe('what is not there at all', () => {
  it.each<[string, () => unknown, RegExp]>([
    ['MarginHead', () => new MarginHead(undefined as never), /^MarginHead: expected options, an object, got undefined/],
    ['step', () => head().stepSync(values(), labels, null as never), /^MarginHead\.step: expected options, an object/],
    [
      'features',
      () => head().stepSync(undefined as never, labels, { lr: 1 }),
      /^MarginHead\.step: expected features as/,
    ],
    [
      'kernels',
      () => kernels.normalizeSync(values(), null as never),
      /^normalize: expected options, an object, got null/,
    ],
    ['triplets', () => tripletLoss(values() as never, labels), /^tripletLoss: expected features as a tensor/],
    ['an operation', () => ops.relu(values() as never), /^relu: expected tensors, got Float32Array/],
  ])('%s', (_, call, message) => {
    expect(call).toThrow(FlashmarginError);
    expect(call).toThrow(message);
  });

  it('inspect', async () => {
    await expect(head().inspect(undefined as never, undefined as never)).rejects.toThrow(
      /^MarginHead\.inspect: expected features as Float32Array or tensor, got undefined/,
    );
  });
});

describe('a head names itself, whichever of its parts fails', () => {
  const bad = new Float32Array(6).fill(Number.NaN);
  it.each(['arcface', 'curricular', 'adacos'])('%s', async (kind) => {
    const { adacos, curricularface } = await import('../lib/index.js');
    const margin = { arcface: arcface(), curricular: curricularface(), adacos: adacos() }[kind];
    const one = new MarginHead({ numClasses: 3, embeddingSize: 3, margin, onAdvice: () => {} });
    expect(() => one.stepSync(bad, labels, { lr: 1 })).toThrow(/^MarginHead\.step: .*row 0/);
    await expect(one.step(bad, labels, { lr: 1 })).rejects.toThrow(/^MarginHead\.step: .*row 0/);
    await expect(one.inspect(bad, labels)).rejects.toThrow(/^MarginHead\.inspect: .*row 0/);
  });
});

describe('a configuration', () => {
  const data = { train: 'x.rec' };
  const pairs = { ...data, sampler: { classes: 32, images: 4 } };
  it.each<[unknown, RegExp]>([
    [
      { data, margin: { method: 'arcfase' } },
      /margin\.method: expected one of .*, got 'arcfase'; did you mean 'arcface'\?/,
    ],
    [{ data, margin: { scale: 'big' } }, /margin\.scale: expected a number above 0, at most 10000, or \{rule: adacos/],
    [{ data, margin: { method: 'sphereface', lambda: 'x' } }, /margin\.lambda: expected a number of at least 0, or/],
    [
      { data, margin: { labelSmoothing: 0.1, negatives: { rule: 'mv' } } },
      /margin: arcface: .*(smoothing|labelSmoothing)/,
    ],
    [
      { data: pairs, loss: { kind: 'triplet' }, margin: { scale: 5 } },
      /margin: expected none beside loss\.kind triplet/,
    ],
    [{ data: pairs, loss: { kind: 'triplet' }, head: { memory: 'fast' } }, /head: expected none beside loss\.kind/],
  ])('says what is wrong: %#', (input, message) => {
    expect(() => resolveConfig(input)).toThrow(message);
  });
});
