/** The optimizers of a backbone and of a head: what each takes, with its defaults, and what it keeps beside a weight. */
import type { OptimizerParams } from './binding.js';
import { checkFloat32, expected, MOST_FLOAT32 } from './errors.js';

export const optimizers = {
  sgd: { defaults: { momentum: 0.9, weightDecay: 0 }, states: ['velocity'] },
  adamw: { defaults: { betas: [0.9, 0.999], eps: 1e-8, weightDecay: 1e-2 }, states: ['expAvg', 'expAvgSq'] },
} as const satisfies Readonly<Record<string, { defaults: OptimizerNumbers; states: readonly string[] }>>;

export type OptimizerName = keyof typeof optimizers;

/** What one optimizer or another takes. */
export interface OptimizerNumbers {
  /** Of SGD. */
  readonly momentum?: number;
  /** Of AdamW: the rates at which the means of the gradient and of its square move are 1 − these. */
  readonly betas?: readonly [number, number];
  /** Of AdamW: added to the root of the squares' mean. */
  readonly eps?: number;
  readonly weightDecay?: number;
}

/** Numbers in the place of others, where they are there; a list among them is a copy, which nobody else changes. */
export function instead<N extends OptimizerNumbers>(of: N, numbers: OptimizerNumbers): N {
  const all = { ...of, ...Object.fromEntries(Object.entries(numbers).filter(([, value]) => value !== undefined)) };
  return all.betas ? { ...all, betas: Object.freeze([...all.betas]) } : all;
}

/** An optimizer's own options, by their names. */
export function optionsOf(type: OptimizerName): string[] {
  return Object.keys(optimizers[type].defaults);
}

/** Throws unless it is the name of an optimizer. */
export function checkOptimizerName(operation: string, name: unknown): asserts name is OptimizerName {
  const names = Object.keys(optimizers);
  const known = typeof name === 'string' && Object.hasOwn(optimizers, name);
  expected(known, operation, `optimizer ${names.map((each) => `'${each}'`).join(' or ')}`, name);
}

/** Of AdamW's eps. */
export const LEAST_EPS = 2 ** -126;

/** Throws unless these are numbers that an optimizer can take a step with; the weights keep what it is given. */
export function checkOptimizer(operation: string, given: OptimizerNumbers & { lr?: number }): void {
  const { lr = 0, momentum = 0, betas = [0, 0], eps = 1, weightDecay = 0 } = given;
  const positive = (x: number) => Number.isFinite(x) && x >= 0;
  const rate = (x: unknown) => typeof x === 'number' && x >= 0 && x < 1;
  expected(positive(lr), operation, 'a finite lr of at least 0', lr);
  // At 1 the velocity forgets nothing, and grows without end.
  expected(rate(momentum), operation, 'momentum in [0, 1)', momentum);
  const pair = Array.isArray(betas) && betas.length === 2 && betas.every(rate);
  expected(pair, operation, 'betas, two numbers in [0, 1)', betas);
  // Without it a gradient of 0 is 0/0.
  expected(positive(eps) && eps > 0, operation, 'a finite eps above 0', eps);
  // Kernels flush what is smaller to 0.
  expected(eps >= LEAST_EPS, operation, "eps of at least 1.18e-38, float32's least normal number", eps);
  expected(positive(weightDecay), operation, 'a finite weightDecay of at least 0', weightDecay);
  checkFloat32(operation, { lr, eps, weightDecay });
  // What AdamW's first step multiplies by.
  const [beta1] = betas;
  expected(lr / (1 - beta1) <= MOST_FLOAT32, operation, 'lr / (1 − β₁) of at most 3.4e38', lr);
}

/** A step as the addon takes it; steps: those before it. */
export function optimizerParams(
  type: OptimizerName,
  { betas: [beta1, beta2] = [0, 0], ...numbers }: OptimizerNumbers & { lr: number },
  steps: number,
): OptimizerParams {
  return type === 'sgd' ? { type, ...numbers } : { type, ...numbers, beta1, beta2, step: steps + 1 };
}
