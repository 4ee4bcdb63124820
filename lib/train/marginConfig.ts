/** The `margin` part of a configuration: a method, its options, and what it is composed with. */
import { z } from 'zod';
import { FlashmarginError } from '../errors.js';
import {
  checkMargin,
  type Margin,
  type MarginName,
  type MarginOptions,
  margins,
  optionsOf,
  presetOf,
} from '../margins/index.js';
import { expecting, wants } from './configProblems.js';

/** No composition is right for some numbers of classes and wrong for others. */
const ANY_CLASSES = 1000;

const methods = Object.keys(margins) as [MarginName, ...MarginName[]];
const unit = z.number().min(0).max(1);
const angle = z.number().min(-Math.PI).max(Math.PI);
const nonNegative = z.number().min(0).max(1e9);

/** Defaults are those of adacosScale() and its like. */
const scale = z.union(
  [
    z.number().positive().max(10_000),
    z.strictObject({ rule: z.literal('adacos'), dynamic: z.boolean().default(true) }),
    z.strictObject({ rule: z.literal('learned'), initial: z.number().positive().max(10_000).default(64) }),
    z.strictObject({ rule: z.literal('featureNorm') }),
  ],
  expecting(
    'a number above 0, at most 10000, or {rule: adacos, dynamic}, {rule: learned, initial} or {rule: featureNorm}',
  ),
);

const negatives = z.discriminatedUnion('rule', [
  z.strictObject({ rule: z.literal('plain') }),
  z.strictObject({
    rule: z.literal('mv'),
    t: z.number().min(0).max(10).default(0.2),
    hard: z.enum(['adaptive', 'fixed']).default('adaptive'),
  }),
  z.strictObject({ rule: z.literal('curricular'), t: z.number().min(-1).max(1).default(0), tRate: unit.default(0.01) }),
  z.strictObject({ rule: z.literal('filter'), above: z.number().min(-1).max(1).default(0.4) }),
]);

const lambda = z.union(
  [
    nonNegative,
    z.strictObject({
      base: nonNegative.default(1000),
      gamma: nonNegative.default(0.12),
      power: nonNegative.default(1),
      least: nonNegative.default(5),
    }),
  ],
  expecting('a number of at least 0, or {base, gamma, power, least}, each of at least 0'),
);

const fields = z.strictObject({
  method: z.enum(methods).default('arcface'),
  scale: scale.optional(),
  margin: z.number().min(0).optional(),
  gradient: z.enum(['exact', 'detached']).optional(),
  overflow: z.enum(['none', 'hard', 'easy', 'clamp']).optional(),
  easyAbove: z.number().min(-1).max(1).optional(),
  cosineEpsilon: z.number().min(0).max(0.5).optional(),
  targetEpsilon: z.number().min(0).max(0.5).optional(),
  angleEpsilon: unit.optional(),
  angleLimit: z.number().min(0).max(Math.PI).optional(),
  projectWeightGradient: z.boolean().optional(),
  negatives: negatives.optional(),
  subCenters: z.number().int().min(1).max(1024).optional(),
  labelSmoothing: z.number().min(0).max(0.99).optional(),
  m1: z.number().positive().max(10).optional(),
  m2: angle.optional(),
  m3: z.number().min(-2).max(2).optional(),
  lambda: lambda.optional(),
  variant: z.enum(['arc', 'am']).optional(),
  t: z.number().min(-1).max(10).optional(),
  tRate: unit.optional(),
  hard: z.enum(['adaptive', 'fixed']).optional(),
  spread: unit.optional(),
  reward: nonNegative.optional(),
  lowerNorm: z.number().positive().max(1e6).optional(),
  upperNorm: z.number().positive().max(1e6).optional(),
  lowerMargin: angle.optional(),
  upperMargin: angle.optional(),
  normPenalty: nonNegative.optional(),
  deviation: unit.optional(),
  plus: z.enum(['none', 'paper', 'official']).optional(),
  h: z.number().min(-100).max(100).optional(),
  normRate: unit.optional(),
  normMean: nonNegative.optional(),
  normStd: nonNegative.optional(),
  balance: z.number().gt(0).lt(1).optional(),
  lossWeight: z.number().positive().max(1e6).optional(),
  power: z.number().int().min(1).max(16).optional(),
  negativeWeight: nonNegative.optional(),
  bias: z.number().min(-10_000).max(10_000).optional(),
  learnBias: z.boolean().optional(),
});

/** Each method takes its own options, and not every composition has a meaning. */
export const marginSchema = fields.superRefine((config, context) => {
  const { method, ...options } = config;
  const known: readonly string[] = optionsOf(method);
  for (const [key, value] of Object.entries(options)) {
    if (value === undefined || known.includes(key)) continue;
    const message = `not an option of ${method}, which has ${known.join(', ')}`;
    context.addIssue({ code: 'custom', path: [key], message });
  }
  const [most, name] = method === 'sphereface' || method === 'asoftmax' ? [10, '10'] : [Math.PI, 'π'];
  if ((options.margin ?? 0) > most)
    context.addIssue({ code: 'custom', path: ['margin'], message: wants(`at most ${name}`, options.margin) });
  if ((method === 'combined' || method === 'adaface') && options.overflow === 'hard')
    context.addIssue({
      code: 'custom',
      path: ['overflow'],
      message: wants(`none, easy or clamp for ${method}`, options.overflow),
    });
  if ((method === 'sphereface2' || method === 'uniface') && typeof options.scale === 'object')
    context.addIssue({ code: 'custom', path: ['scale'], message: wants(`a number for ${method}`, options.scale) });
  if (context.issues.length > 0) return;
  try {
    checkMargin(marginOf(config), ANY_CLASSES, method);
  } catch (error) {
    if (!(error instanceof FlashmarginError)) throw error;
    context.addIssue({ code: 'custom', message: error.message });
  }
});

/** A margin configuration with the method's published defaults. */
export function marginOf({ method, ...options }: z.infer<typeof marginSchema>): Margin {
  const given = Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined));
  return presetOf(method, given as MarginOptions);
}

/** A margin in a title: `arcface (s 64, m 0.5)`; with the share of the classes in a step, `arcface (s 64, m 0.5, r 0.1)`. */
export function marginTitle(config: z.infer<typeof marginSchema>, sampleRate: number): string {
  const { scale: s, margin: m, subCenters: K, negatives: others } = config;
  const detail = [
    s === undefined ? '' : typeof s === 'number' ? `s ${s}` : `s ${s.rule}`,
    m === undefined ? '' : `m ${m}`,
    K === undefined || K === 1 ? '' : `K ${K}`,
    others === undefined || others.rule === 'plain' ? '' : `${others.rule} negatives`,
    sampleRate === 1 ? '' : `r ${sampleRate}`,
  ].filter(Boolean);
  return config.method + (detail.length > 0 ? ` (${detail.join(', ')})` : '');
}

const bytesOrName = expecting("'lean', 'fast' or a number of bytes");

const share = expecting('a share of at least 0 and below 1');
const rate = expecting('a share above 0 and at most 1');

/** How the head computes: MarginHead's precision, memory, gradientFilter, sampleRate and unsampledCenters. */
export const headSchema = z.strictObject({
  precision: z.enum(['float32', 'bfloat16']).default('float32'),
  memory: z.union([z.enum(['lean', 'fast']), z.number().min(0, bytesOrName)], bytesOrName).default('lean'),
  gradientFilter: z.number(share).min(0, share).lt(1, share).default(0),
  sampleRate: z.number(rate).gt(0, rate).max(1, rate).default(1),
  unsampledCenters: z.enum(['kept', 'moved']).default('kept'),
});
