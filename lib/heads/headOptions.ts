/** What a head is made of: the options, their defaults, and what they must be. */
import type { Precision } from '../binding.js';
import { checkOptions, expected } from '../errors.js';
import { arcface, checkMargin, type Margin } from '../margins/index.js';
import {
  checkOptimizer,
  checkOptimizerName,
  type OptimizerName,
  type OptimizerNumbers,
  optionsOf,
} from '../optimizers.js';

/** `momentum` is SGD's, `betas` and `eps` are AdamW's. */
export interface MarginHeadOptions extends OptimizerNumbers {
  readonly numClasses: number;
  readonly embeddingSize: number;
  readonly margin?: Margin;
  /** 'cpu', 'cuda', 'cuda:1', …, or 'auto': CUDA where there is one that works, otherwise the CPU and a warning. */
  readonly device?: string;
  /** Of the initial class centers, N(0, 0.01²), and of what a method draws. */
  readonly seed?: number;
  /** SGD by default. */
  readonly optimizer?: OptimizerName;
  /** 5e-4 of SGD, 0.01 of AdamW. */
  readonly weightDecay?: number;
  /**
   * bfloat16: a step's matrix products round what they multiply to it, which is faster where the processor multiplies
   * bfloat16 (`flashmargin doctor` says so) and moves gradients by some 0.3 %.  Weights, the optimizer's state, sums and
   * the margin stay float32.
   */
  readonly precision?: Precision;
  /**
   * What a step may keep besides its results, instead of computing cosines twice.  lean: 12 MiB of them.  fast: all,
   * 2·N·C·K bytes.  A number: so many bytes, 0 for none.  But for lean with float32, kept cosines are rounded to 1/32767.
   * On CUDA: with bfloat16 on compute capability 9.0 and embeddings of at most 512, terms in bfloat16; lean where all fit.
   */
  readonly memory?: 'lean' | 'fast' | number;
  /**
   * How much of a row's probability, from 0 to below 1, a step may leave out of its gradient: blocks of 256 rows and 256
   * classes are skipped in which no row has more than the block's share of it.  0, by default: nothing.  A row's
   * dLoss/dcosines is then wrong by at most gradientFilter·scale·(its weight in the loss), times the slope of φ where
   * negatives are reweighted: small beside the gradient of a row that has more than this left to learn, and all that its
   * negatives have where it has less.  On CUDA alone, with bfloat16 on compute capability 9.0 and no label smoothing;
   * elsewhere nothing is left out.
   */
  readonly gradientFilter?: number;
  /**
   * Partial FC (An et al. 2022): the share of the classes, above 0 to 1, that a step takes part with, ⌊sampleRate·C⌋ and
   * at least one: those of the batch, and others drawn for each step from `seed`.  1, by default: all.  The softmax is
   * over these classes alone, and so is `accuracy`.  A batch of more classes takes part with all of them.
   */
  readonly sampleRate?: number;
  /**
   * What a step does to the centers that take no part.  kept, by default: nothing, as the first PartialFC and UniFace.
   * moved: momentum and weight decay act on them, as in PartialFC_V2, whose gradient is 0 there; a pass over all centers.
   */
  readonly unsampledCenters?: 'kept' | 'moved';
  /** Takes sentences about numbers far from anything published, once each; by default a warning of the process. */
  readonly onAdvice?: (sentence: string) => void;
}

const optionNames = (type: OptimizerName) => [
  'numClasses',
  'embeddingSize',
  'margin',
  'device',
  'seed',
  'optimizer',
  ...optionsOf(type),
  'precision',
  'memory',
  'gradientFilter',
  'sampleRate',
  'unsampledCenters',
  'onAdvice',
];

/** Once a process and sentence. */
function warn(sentence: string): void {
  if (warned.has(sentence)) return;
  warned.add(sentence);
  process.emitWarning(sentence, { type: 'FlashmarginAdvice' });
}
const warned = new Set<string>();

/** The options with their defaults, an optimizer's numbers as they were given.  Throws what a head cannot be made of. */
export function checkedOptions(options: MarginHeadOptions) {
  const { optimizer = 'sgd' } = (options ?? {}) as MarginHeadOptions;
  checkOptimizerName('MarginHead', optimizer);
  checkOptions('MarginHead', options, optionNames(optimizer));
  const {
    numClasses,
    embeddingSize,
    margin = arcface(),
    device = 'cpu',
    seed = 0,
    optimizer: _,
    precision = 'float32',
    memory = 'lean',
    gradientFilter = 0,
    sampleRate = 1,
    unsampledCenters = 'kept',
    onAdvice = warn,
    ...numbers
  } = options;
  expected(typeof onAdvice === 'function', 'MarginHead', 'onAdvice, a function', onAdvice);
  expected(
    Number.isSafeInteger(numClasses) && numClasses >= 1,
    'MarginHead',
    'numClasses, an integer of at least 1',
    numClasses,
  );
  expected(
    Number.isSafeInteger(embeddingSize) && embeddingSize >= 1,
    'MarginHead',
    'embeddingSize, an integer of at least 1',
    embeddingSize,
  );
  expected(Number.isSafeInteger(seed) && seed >= 0, 'MarginHead', 'seed, an integer of at least 0', seed);
  checkOptimizer('MarginHead', numbers);
  expected(
    precision === 'float32' || precision === 'bfloat16',
    'MarginHead',
    "precision 'float32' or 'bfloat16'",
    precision,
  );
  expected(
    memory === 'lean' || memory === 'fast' || (Number.isFinite(memory) && memory >= 0),
    'MarginHead',
    "memory 'lean', 'fast' or a number of bytes",
    memory,
  );
  expected(
    Number.isFinite(gradientFilter) && gradientFilter >= 0 && gradientFilter < 1,
    'MarginHead',
    'gradientFilter, a share of at least 0 and below 1',
    gradientFilter,
  );
  expected(
    Number.isFinite(sampleRate) && sampleRate > 0 && sampleRate <= 1,
    'MarginHead',
    'sampleRate, a share above 0 and at most 1',
    sampleRate,
  );
  expected(
    unsampledCenters === 'kept' || unsampledCenters === 'moved',
    'MarginHead',
    "unsampledCenters 'kept' or 'moved'",
    unsampledCenters,
  );
  checkMargin(margin, numClasses, 'MarginHead');
  return {
    numClasses,
    embeddingSize,
    margin,
    device,
    seed,
    optimizer,
    precision,
    memory,
    gradientFilter,
    sampleRate,
    unsampledCenters,
    onAdvice,
    numbers,
  };
}
