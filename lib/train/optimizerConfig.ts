/** The `optimizer` part of a configuration: an optimizer, and what it alone takes. */
import { z } from 'zod';
import { MOST_FLOAT32 } from '../errors.js';
import { LEAST_EPS, type OptimizerName, type OptimizerNumbers, optimizers, optionsOf } from '../optimizers.js';
import { expecting, wants } from './configProblems.js';

const names = Object.keys(optimizers) as [OptimizerName, ...OptimizerName[]];
const rate = z.number().min(0).lt(1);
const float32 = z.number().max(MOST_FLOAT32, expecting("at most 3.4e38, float32's largest"));
const nonNegative = float32.min(0);

const fields = z.strictObject({
  type: z.enum(names).default('sgd'),
  lr: float32.positive().optional(),
  momentum: rate.optional(),
  betas: z.tuple([rate, rate], expecting('two numbers in [0, 1), such as [0.9, 0.999]')).optional(),
  eps: float32.min(LEAST_EPS, expecting("at least 1.18e-38, float32's least normal number")).optional(),
  weightDecay: nonNegative.optional(),
  /** Of the head; the backbone's by default. */
  headWeightDecay: nonNegative.optional(),
  /** Of the backbone's gradients, all together. */
  clipNorm: z.number().positive().optional(),
});

/** Beside those of the optimizers themselves. */
const defaults = {
  sgd: { lr: 0.1, weightDecay: 5e-4 },
  adamw: { lr: 1e-3 },
} as const satisfies Readonly<Record<OptimizerName, OptimizerNumbers & { lr: number }>>;

function checkOwn(given: z.infer<typeof fields>, context: z.RefinementCtx): void {
  for (const type of names.filter((each) => each !== given.type))
    for (const key of optionsOf(type).filter((each) => !optionsOf(given.type).includes(each))) {
      const value = given[key as keyof OptimizerNumbers];
      if (value === undefined) continue;
      const message = `${wants(`none beside optimizer.type ${given.type}`, value)}: remove it, or set optimizer.type to ${type}`;
      context.addIssue({ code: 'custom', path: [key], message });
    }
}

export const optimizerSchema = fields.superRefine(checkOwn).transform((given) => {
  const { type } = given;
  const chosen = Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined));
  return { type, ...optimizers[type].defaults, ...defaults[type], ...chosen } as Required<
    Pick<typeof given, 'type' | 'lr' | 'weightDecay'>
  > &
    typeof given;
});
