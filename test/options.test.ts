/** What no operation knows is an error that names the operation, and so is what is not an object or a tensor at all. */
import { describe, expect, it } from 'vitest';
import {
  annealedLambda,
  annealing,
  arcface,
  backward,
  backwardFrom,
  buildBackbone,
  CenterLoss,
  checkMargin,
  conformance,
  contrastiveLoss,
  data,
  evaluate,
  evaluation,
  FlashmarginError,
  fixedAdacosScale,
  io,
  kernels,
  losses,
  MarginHead,
  MetricHead,
  marginLogits,
  marginSoftmax,
  nn,
  ones,
  ops,
  optim,
  presetOf,
  Random,
  resolveConfig,
  shardOf,
  softmax,
  summaryTiers,
  tensor,
  train,
  tripletLoss,
  writeRunReport,
  zeros,
} from '../lib/index.js';

const nothing = undefined as never;
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
    ['mineTriplets', () => losses.mineTriplets(new Float32Array(4), labels, unknown)],
    ['contrastiveLoss', () => contrastiveLoss(matrix(), labels, unknown)],
    ['CenterLoss', () => new CenterLoss({ numClasses: 2, embeddingSize: 3, nosuch: 1 } as never)],
    ['GroupFace', () => new nn.GroupFace({ features: 3, nosuch: 1 } as never)],
    ['Linear', () => new nn.Linear(2, 2, unknown)],
    ['Conv2d', () => new nn.Conv2d(2, 2, unknown)],
    ['BatchNorm', () => new nn.BatchNorm(2, unknown)],
    ['PRelu', () => new nn.PRelu(2, unknown)],
    ['IBasicBlock', () => new nn.IBasicBlock(2, 2, 1, unknown)],
    ['iresnet', () => new nn.IResNet({ blocks: [1], nosuch: 1 } as never)],
    ...Object.entries(nn.backbones).map(([name, make]) => [name, () => make(unknown)] as [string, () => unknown]),
    ['MetricHead', () => new MetricHead({ loss: { kind: 'triplet' }, nosuch: 1 } as never)],
    ['MetricHead', () => new MetricHead({ loss: { kind: 'triplet', nosuch: 1 } as never })],
    ['MarginHead', () => new MarginHead({ numClasses: 2, embeddingSize: 3, nosuch: 1 } as never)],
    ['MarginHead.stepSync', () => head().stepSync(values(), labels, { lr: 1, nosuch: 1 } as never)],
  ])('of %s', (operation, call) => {
    expect(call).toThrow(FlashmarginError);
    expect(call).toThrow(new RegExp(`^${operation.replace('.', '\\.')}: expected options .*, got 'nosuch'`));
  });
});

describe('what is not there at all', () => {
  it.each<[string, () => unknown, RegExp]>([
    ['MarginHead', () => new MarginHead(undefined as never), /^MarginHead: expected options, an object, got undefined/],
    [
      'step',
      () => head().stepSync(values(), labels, null as never),
      /^MarginHead\.stepSync: expected options, an object/,
    ],
    [
      'features',
      () => head().stepSync(undefined as never, labels, { lr: 1 }),
      /^MarginHead\.stepSync: expected features as/,
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
      /^MarginHead\.inspect: expected features as Float32Array or float32 tensor, got undefined/,
    );
  });
});

describe('a head names itself, whichever of its parts fails', () => {
  const bad = new Float32Array(6).fill(Number.NaN);
  it.each(['arcface', 'curricular', 'adacos'])('%s', async (kind) => {
    const { adacos, curricularface } = await import('../lib/index.js');
    const margin = { arcface: arcface(), curricular: curricularface(), adacos: adacos() }[kind];
    const one = new MarginHead({ numClasses: 3, embeddingSize: 3, margin, onAdvice: () => {} });
    expect(() => one.stepSync(bad, labels, { lr: 1 })).toThrow(/^MarginHead\.stepSync: .*row 0/);
    await expect(one.step(bad, labels, { lr: 1 })).rejects.toThrow(/^MarginHead\.step: .*row 0/);
    await expect(one.inspect(bad, labels)).rejects.toThrow(/^MarginHead\.inspect: .*row 0/);
  });
});

describe('a configuration', () => {
  const images = { train: 'x.rec' };
  const pairs = { ...images, sampler: { classes: 32, images: 4 } };
  it.each<[unknown, RegExp]>([
    [
      { data: images, margin: { method: 'arcfase' } },
      /margin\.method: expected one of .*, got 'arcfase'; did you mean 'arcface'\?/,
    ],
    [
      { data: images, margin: { scale: 'big' } },
      /margin\.scale: expected a number above 0, at most 10000, or \{rule: adacos/,
    ],
    [
      { data: images, margin: { method: 'sphereface', lambda: 'x' } },
      /margin\.lambda: expected a number of at least 0, or/,
    ],
    [
      { data: images, margin: { labelSmoothing: 0.1, negatives: { rule: 'mv' } } },
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

describe('a name that is not there, inside of what is given', () => {
  const margin = () => ({ ...arcface(), margn: 0.2 }) as never;
  it.each<[string, () => unknown, RegExp]>([
    ['a margin of a head', () => new MarginHead({ numClasses: 3, embeddingSize: 3, margin: margin() }), /margn'/],
    ['a margin of an operation', () => marginSoftmax(matrix(), matrix(), labels, margin()), /got 'margn'/],
    [
      "another method's option",
      () => marginSoftmax(matrix(), matrix(), labels, { ...arcface(), m1: 3 } as never),
      /m1'/,
    ],
    [
      'a state',
      () => marginSoftmax(matrix(), matrix(), labels, arcface(), { state: { T: 1 } } as never),
      /^marginSoftmax: expected state scale, t, .*, got 'T'/,
    ],
    [
      'a state of a kernel',
      () => kernels.marginTransformSync(values(), labels, arcface(), { state: { tt: 1 } } as never),
      /^marginTransform: expected state .*, got 'tt'/,
    ],
    [
      'a state of null',
      () => kernels.marginTransformSync(values(), labels, arcface(), { state: null } as never),
      /^marginTransform: expected state, an object, got null/,
    ],
    [
      'out',
      () => kernels.normalizeSync(values(), { rows: 2, out: { z: 1 } } as never),
      /expected out y, norm, got 'z'/,
    ],
    ['out of null', () => kernels.normalizeSync(values(), { rows: 2, out: null } as never), /expected out, an object/],
    [
      'out of a loss',
      () => kernels.softmaxCrossEntropySync(values(), labels, { out: { rowloss: 1 } } as never),
      /expected out rowLoss, lse, got 'rowloss'/,
    ],
    ['a schedule', () => optim.schedule('poly', { base: 1, totalSteps: 9, powr: 1 } as never), /got 'powr'/],
    ['SGD', () => new optim.Sgd([], { momentm: 1 } as never), /^Sgd: expected options .*, got 'momentm'/],
    ['dropout', () => ops.dropout(matrix(), { rate: 0, seed: 1, sed: 1 } as never), /^dropout: expected options/],
    ['openDataset', () => data.openDataset('x.rec', { chanels: 1 } as never), /^openDataset: expected options/],
  ])('%s', (_, call, message) => {
    expect(call).toThrow(FlashmarginError);
    expect(call).toThrow(message);
  });

  it('train', async () => {
    await expect(train({ data: { train: 'x.rec' } }, { resum: true } as never)).rejects.toThrow(
      /^train: expected options .*, got 'resum'/,
    );
  });
});

describe('a number that is none', () => {
  const none = undefined as never;
  const sgd = () => new optim.Sgd([['w', matrix()]]);
  it.each<[string, () => unknown, RegExp]>([
    [
      'a scale',
      () => new MarginHead({ numClasses: 3, embeddingSize: 3, margin: arcface({ scale: '64' as never }) }),
      /^MarginHead: expected a scale above 0, got '64'/,
    ],
    ['a λ', () => annealedLambda({} as never, 1), /^annealedLambda: expected lambda\.base, a number .* got undefined/],
    [
      'the step of a λ',
      () => annealedLambda(annealing(), none),
      /^annealedLambda: expected a step of at least 0, got und/,
    ],
    [
      'the step of a rate',
      () => optim.schedule('poly', { base: 1, totalSteps: 9 })(none),
      /^schedule: expected a step/,
    ],
    ['a number of classes', () => fixedAdacosScale(none), /^fixedAdacosScale: expected numClasses, .* got undefined/],
    ['a seed', () => new Random(none), /^Random: expected a seed, an integer of at least 0, got undefined/],
    ['a file to run', () => conformance('test/golden', { only: 3 as never }), /^conformance: expected only, a part of/],
    [
      'a precision to run in',
      () => conformance('test/golden', { precision: 'int8' as never }),
      /^conformance: expected precision 'float32', 'float64', 'bfloat16', got 'int8'/,
    ],
    ['sizes of a layer', () => new nn.Linear(0, 2), /^Linear: expected inputs, an integer of at least 1, got 0/],
    ['a kernel', () => new nn.Conv2d(1, 1, { kernel: 2 }), /^Conv2d: expected padding, .* got 0\.5/],
    ['a rate of dropout', () => new nn.Dropout(1), /^Dropout: expected a rate in \[0, 1\), got 1/],
    ['a part of a network', () => new nn.Sequential({} as never), /^Sequential: expected modules, got \{\}/],
    ['blocks', () => new nn.IResNet({ blocks: [1.5] }), /^iresnet: expected blocks\[0\], an integer .* got 1\.5/],
    ['a generator', () => new nn.PRelu(2, { rng: 7 as never }), /^PRelu: expected rng, a Random, got 7/],
    ['a step of NaN', () => sgd().step(Number.NaN), /^Sgd\.step: expected a finite lr of at least 0, got NaN/],
    ['a step backwards', () => sgd().step(-1), /^Sgd\.step: .* got -1/],
    ['a step of nothing', () => (sgd().step as () => void).call(sgd()), /^Sgd\.step: .* got undefined/],
    ['momentum', () => new optim.Sgd([], { momentum: Number.NaN }), /^Sgd: expected momentum in \[0, 1\), got NaN/],
    ['a base', () => optim.schedule('poly', { base: Number.NaN, totalSteps: 9 }), /^schedule: expected a finite base/],
    ['a name', () => optim.schedule('polly' as never, { base: 1, totalSteps: 9 }), /^schedule: .* got 'polly'/],
    [
      'milestones',
      () => optim.schedule('step', { base: 1, totalSteps: 9, milestones: [3, 1] }),
      /^schedule: expected milestones, ascending .* got \[3, 1\]/,
    ],
    [
      'dLoss',
      () => kernels.softmaxCrossEntropyBackwardSync(values(), labels, { dLoss: 'x' as never }),
      /^softmaxCrossEntropyBackward: expected dLoss, a number, got 'x'/,
    ],
  ])('%s', (_, call, message) => {
    expect(call).toThrow(FlashmarginError);
    expect(call).toThrow(message);
  });
});

describe('what looks like a choice or a share and is none', () => {
  const running = { runningMean: zeros([3]), runningVar: ones([3]), training: true, momentum: 0.1, epsilon: 1e-5 };
  const norm = (wrong: object) => ops.batchNorm(matrix(), ones([3]), zeros([3]), { ...running, ...wrong } as never);
  it.each<[string, () => unknown, RegExp]>([
    [
      'a tensor as bias',
      () => new nn.Linear(2, 2, { bias: zeros([2]) as never }),
      /^Linear: expected bias true or false, got a/,
    ],
    [
      'what is behind a norm',
      () => new nn.BatchNorm(3).forward(matrix(), null as never),
      /forward: expected behind, an/,
    ],
    [
      'a slope behind a norm',
      () => new nn.BatchNorm(3).forward(matrix(), { prelu: new nn.PRelu(3).weight as never }),
      /^BatchNorm\.forward: expected prelu, a PRelu, got a float32 tensor \[3\]/,
    ],
    [
      'two things behind a norm',
      () => new nn.BatchNorm(3).forward(matrix(), { prelu: new nn.PRelu(3), shortcut: matrix() }),
      /^BatchNorm\.forward: expected a prelu or a shortcut behind it, got \{prelu/,
    ],
    [
      'another name behind a norm',
      () => new nn.BatchNorm(3).forward(matrix(), { slope: new nn.PRelu(3) } as never),
      /^BatchNorm\.forward: expected behind prelu, shortcut, got 'slope'/,
    ],
    [
      'a frozen weight',
      () => new nn.BatchNorm(2, { frozenWeight: 1 as never }),
      /^BatchNorm: expected frozenWeight true or/,
    ],
    [
      'a loss on units',
      () => tripletLoss(matrix(), labels, { normalize: 'no' as never }),
      /^tripletLoss: expected normalize/,
    ],
    [
      'another',
      () => contrastiveLoss(matrix(), labels, { normalize: 0 as never }),
      /^contrastiveLoss: expected normalize true/,
    ],
    ['training', () => norm({ training: 'no' }), /^batchNorm: expected training true or false, got 'no'/],
    ['no training', () => norm({ training: undefined }), /^batchNorm: expected training true or false, got undefined/],
    ['momentum', () => norm({ momentum: 1.5 }), /^batchNorm: expected momentum in \[0, 1\], got 1\.5/],
    [
      'an epsilon',
      () => norm({ epsilon: Number.POSITIVE_INFINITY }),
      /^batchNorm: expected a finite epsilon .* got Infinity/,
    ],
    [
      'alpha',
      () => new CenterLoss({ numClasses: 2, embeddingSize: 3, alpha: true as never }),
      /^CenterLoss: expected alpha in/,
    ],
    [
      'momentum of groups',
      () => new nn.GroupFace({ features: 3, momentum: [1] as never }),
      /^GroupFace: expected momentum/,
    ],
    ['dropout', () => nn.iresnetSmall({ dropout: '' as never }), /^iresnet: expected dropout in \[0, 1\), got ''/],
    [
      'widths',
      () => nn.iresnetSmall({ widths: Int32Array.of(0, 1) as never }),
      /^iresnet: expected widths\[0\], an integer/,
    ],
    [
      'a shard',
      () => (shardOf as () => unknown)(),
      /^shardOf: expected numClasses, an integer of at least 1, got undefined/,
    ],
    [
      'a search',
      () => evaluation.nearest(values(), values(), undefined as never, 1),
      /^nearest: expected dim, an integer of/,
    ],
    ['a row of weight', () => ops.linear(matrix(), zeros([3])), /^linear: expected weight \[O, I\], got \[3\]/],
    [
      'a row of features',
      () => marginSoftmax(zeros([3]), matrix(), labels, arcface()),
      /^marginSoftmax: expected features \[N, D\], got \[3\]/,
    ],
    ['a margin', () => (checkMargin as () => unknown)(), /^checkMargin: expected a margin such as/],
    ['the place of a configuration', () => resolveConfig({}, 7 as never), /^resolveConfig: expected where, .* got 7/],
  ])('%s', (_, call, message) => {
    expect(call).toThrow(FlashmarginError);
    expect(call).toThrow(message);
  });

  it('an evaluation', async () => {
    const net = nn.iresnetSmall({ stemWidth: 4, widths: [4, 4], embeddingSize: 4 });
    await expect(evaluate(net, { pairs: 7 as never })).rejects.toThrow(/^evaluate: expected pairs, an array, got 7/);
    await expect(evaluate(net, { flip: 'yes' as never })).rejects.toThrow(
      /^evaluate: expected flip true or false, got 'y/,
    );
    await expect(evaluate(net, { test: 7 as never })).rejects.toThrow(
      /^evaluate: expected test, the path of a \.rec file/,
    );
    net.dispose();
  });
});

describe('what is no tensor, or nothing', () => {
  const none = undefined as never;
  it.each<[string, () => unknown, RegExp]>([
    [
      'features of null',
      () => marginSoftmax(null as never, matrix(), labels, arcface()),
      /^marginSoftmax: .* got null/,
    ],
    ['no margin', () => marginSoftmax(matrix(), matrix(), labels, none), /^marginSoftmax: expected a margin such as/],
    ['no logits', () => marginLogits(none, none, none, none), /^marginLogits: expected weight as a tensor/],
    [
      'margins',
      () => marginLogits(matrix(), matrix(), labels, arcface(), { margins: 3 as never }),
      /^marginLogits: expected margins as a tensor, got 3/,
    ],
    ['cosines', () => ops.marginTransform(null as never, labels, arcface()), /^marginTransform: expected cosines as/],
    ['targets', () => ops.targetCosines(null as never, matrix(), labels), /^targetCosines: expected features as/],
    ['linear', () => ops.linear(none, none), /^linear: expected x as a tensor, got undefined/],
    ['dropout', () => ops.dropout(matrix(), none), /^dropout: expected options, an object, got undefined/],
    ['subtract', () => ops.subtract(matrix(), null as never), /^subtract: expected tensors, got null/],
    ['scatter', () => ops.scatterAddRows(1 as never, 2 as never, 3 as never), /^scatterAddRows: expected into as/],
    ['backward', () => backward(null as never), /^backward: expected y as a tensor, got null/],
    ['backwardFrom', () => backwardFrom(null as never), /^backward: expected a list/],
    ['backwardFrom of nothing', () => backwardFrom([[]] as never), /^backward: expected y as a tensor/],
    ['GroupFace', () => new nn.GroupFace({ features: 3 }).forward(none), /^GroupFace: expected features as a tensor/],
    ['SGD', () => new optim.Sgd(none), /^Sgd: expected parameters/],
    ['a loader', () => new data.BatchLoader(none, none), /^BatchLoader: expected a set from openDataset/],
    ['a set', () => data.openDataset(none), /^openDataset: expected the path of a \.rec file, got undefined/],
    [
      'a checkpoint of none',
      () => io.readCheckpoint(io.listCheckpoints('nosuch')[0] as never),
      /^readCheckpoint: expected the path of a checkpoint, .* got undefined/,
    ],
    [
      'a folder of none',
      () => io.listCheckpoints(nothing),
      /^listCheckpoints: expected the folder of a run, got undef/,
    ],
    ['a last one of none', () => io.lastGoodCheckpoint(nothing), /^lastGoodCheckpoint: expected the folder of a run/],
    ['a lock of none', () => io.lockFolder(nothing), /^lockFolder: expected the path of a folder, got undefined/],
    ['a checkpoint to restore', () => io.restore(nothing, {}), /^restore: expected a checkpoint, .* got undefined/],
    [
      'a pair set',
      () => data.openPairSet(nothing),
      /^openPairSet: expected the path of a .bin pair set, got undefined/,
    ],
    ['a method', () => presetOf('x' as never), /^presetOf: expected a method .* got 'x'/],
    ['an empty margin', () => marginSoftmax(matrix(), matrix(), labels, {} as never), /got \{\}/],
    [
      'nothing mined',
      () => losses.mineTriplets(none, none),
      /^mineTriplets: expected distances, an array, got undefined/,
    ],
    [
      'mined labels',
      () => losses.mineTriplets([0], [0] as never),
      /^mineTriplets: expected labels as Int32Array, got \[0\]/,
    ],
    [
      'mined distances',
      () => losses.mineTriplets([0, 1], new Int32Array(2)),
      /^mineTriplets: expected distances \[2, 2\] for 2 labels, got 2 values/,
    ],
    [
      'no configuration',
      () => buildBackbone({ backbone: {} } as never, [32, 32, 1]),
      /^buildBackbone: expected a configuration/,
    ],
    [
      'no report',
      () => writeRunReport({ config: {}, out: 'nosuch' } as never, undefined),
      /^writeRunReport: config: 1 problem\n {2}data: expected an object/,
    ],
    [
      'no steps',
      () => writeRunReport({ config: { data: { train: 'x.rec' } }, out: 'nosuch' } as never, undefined),
      /^writeRunReport: expected steps, as train\(\) returns it, got undefined/,
    ],
    [
      'no tiers',
      () => summaryTiers([1] as never),
      /^summaryTiers: expected tiers, as evaluate\(\) returns them, got 1/,
    ],
    [
      'a state to load',
      () => new nn.Linear(2, 2).loadStateDict(none),
      /^loadStateDict: expected a state, as stateDict/,
    ],
    ['a preset', () => marginSoftmax(matrix(), matrix(), labels, arcface as never), /got the function /],
  ])('%s', (_, call, message) => {
    expect(call).toThrow(FlashmarginError);
    expect(call).toThrow(message);
  });

  it('evaluate, and train without options', async () => {
    await expect(evaluate(none, none)).rejects.toThrow(/^evaluate: expected a backbone/);
    await expect(train({ data: { train: 'x.rec' } }, null as never)).rejects.toThrow(/^train: expected options, an/);
  });
});

describe('the name and the place of a fault that the kernels find', () => {
  it.each<[string, () => unknown, RegExp]>([
    [
      'a backward kernel',
      () => kernels.subCenterMaxBackwardSync(values(), new Int32Array(6).fill(5), 2, { rows: 2 }),
      /^subCenterMaxBackward: /,
    ],
    ['labels of two axes', () => head().stepSync(matrix(), tensor(labels, [1, 2]), { lr: 1 }), /2 labels .* \[1, 2\]/],
    [
      'labels of another dtype',
      () => head().stepSync(matrix(), tensor(new Float32Array(2), [2]), { lr: 1 }),
      /expected labels as Int32Array or int32 tensor, got a float32 tensor \[2\]/,
    ],
    [
      'features of another dtype',
      () => head().stepSync(tensor(new Float64Array(6), [2, 3]), labels, { lr: 1 }),
      /expected features as Float32Array or float32 tensor, got a float64 tensor \[2, 3\]/,
    ],
    [
      'features of another array',
      () => head().stepSync(new Float64Array(6) as never, labels, { lr: 1 }),
      /got Float64Array of 6/,
    ],
  ])('%s', (_, call, message) => {
    expect(call).toThrow(FlashmarginError);
    expect(call).toThrow(message);
  });

  it('a head that no memory holds', () => {
    expect(() => new MarginHead({ numClasses: 2 ** 40, embeddingSize: 2 ** 12, onAdvice: () => {} })).toThrow(
      /^MarginHead: /,
    );
  });
});
