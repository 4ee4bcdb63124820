/** What is wrong with a margin, or with what it is composed of: also where no compiler has looked at it. */
import { type MarginParams, native } from '../binding.js';
import { checkNumbers, checkOptions, expected, named } from '../errors.js';
import type { Negatives, Scale } from './axes.js';
import { type Margin, type MarginFields, type MarginName, margins, optionsOf } from './methods.js';
import { isBinary, type MarginState, nativeMargin, negativesOf } from './native.js';

type Test = readonly [test: (value: unknown) => boolean, wanted: string];

const number = (low: number, high: number, wanted: string): Test => [
  (x) => typeof x === 'number' && x >= low && x <= high,
  wanted,
];
const oneOf = (...names: readonly string[]): Test => [(x) => names.includes(x as string), names.join(' or ')];
const any = number(Number.NEGATIVE_INFINITY, Number.POSITIVE_INFINITY, 'a number');
const unit = number(0, 1, 'a number in [0, 1]');
const large = number(0, 1e9, 'a number in [0, 1e9]');
const boolean: Test = [(x) => typeof x === 'boolean', 'true or false'];

/** Of plain options; ranges that the kernels know are theirs to refuse. */
const options: Partial<Record<keyof MarginFields, Test>> = {
  margin: any,
  gradient: oneOf('exact', 'detached'),
  overflow: oneOf('none', 'hard', 'easy', 'clamp'),
  easyAbove: any,
  cosineEpsilon: any,
  targetEpsilon: any,
  angleEpsilon: any,
  angleLimit: any,
  projectWeightGradient: boolean,
  subCenters: any,
  labelSmoothing: any,
  m1: any,
  m2: any,
  m3: any,
  variant: oneOf('arc', 'am'),
  t: any,
  tRate: unit,
  hard: oneOf('adaptive', 'fixed'),
  spread: unit,
  reward: large,
  lowerNorm: any,
  upperNorm: any,
  lowerMargin: any,
  upperMargin: any,
  normPenalty: any,
  deviation: unit,
  plus: oneOf('none', 'paper', 'official'),
  h: any,
  normRate: unit,
  normMean: any,
  normStd: any,
  balance: [(x) => typeof x === 'number' && x > 0 && x < 1, 'a number above 0 and below 1'],
  lossWeight: [(x) => typeof x === 'number' && x > 0 && x <= 1e6, 'a number above 0, at most 1e6'],
  power: any,
  negativeWeight: any,
  bias: any,
  learnBias: boolean,
};

/** Of what a margin is composed with, by rule: every field is there, and no other. */
const scales: Record<Exclude<Scale, number>['rule'], Record<string, Test>> = {
  adacos: { dynamic: boolean },
  learned: { initial: number(Number.MIN_VALUE, 1e4, 'a number in (0, 10000]') },
  featureNorm: {},
};
const negatives: Record<Negatives['rule'], Record<string, Test>> = {
  plain: {},
  mv: { t: any, hard: oneOf('adaptive', 'fixed') },
  curricular: { t: any, tRate: unit },
  filter: { above: any },
};
const annealed: Record<string, Test> = { base: large, gamma: large, power: large, least: large };

function checkFields(where: string, name: string, value: object, fields: Record<string, Test>): void {
  const given = Object.keys(value).filter((key) => key !== 'rule');
  for (const key of given) {
    expected(key in fields, where, `${name} with ${Object.keys(fields).join(', ') || 'no further options'}`, key);
  }
  for (const [key, [test, wanted]] of Object.entries(fields)) {
    const at = (value as Record<string, unknown>)[key];
    expected(test(at), where, `${name}.${key}, ${wanted}`, at);
  }
}

function checkRule(where: string, name: string, value: unknown, rules: Record<string, Record<string, Test>>): void {
  const rule = (value as { rule?: string } | null)?.rule ?? value;
  const fields = typeof rule === 'string' ? rules[rule] : undefined;
  expected(fields, where, `${name} with a rule ${Object.keys(rules).join(', ')}`, rule);
  checkFields(where, name, value as object, fields);
}

/** Throws what is wrong with a margin over so many classes. */
export function checkMargin(margin: Margin, numClasses: number, where = 'checkMargin'): void {
  const known = Object.hasOwn(margins, margin?.method ?? '') ? margins[margin.method] : undefined;
  expected(known, where, `a margin such as arcface() (${Object.keys(margins).join(', ')})`, margin);
  const fields = margin as Partial<MarginFields> & { method: MarginName };
  for (const [name, [test, wanted]] of Object.entries(options)) {
    const value = fields[name as keyof MarginFields];
    if (value !== undefined || name in known.params) expected(test(value), where, `margin.${name}, ${wanted}`, value);
  }
  const { scale, lambda, method } = fields;
  if (typeof scale === 'object') checkRule(where, 'scale', scale, scales);
  else expected(typeof scale === 'number' && scale > 0, where, 'a scale above 0', scale);
  expected(
    !isBinary(margin) || typeof scale === 'number',
    where,
    `a number as the scale of ${method}`,
    (scale as { rule: string }).rule,
  );
  if ('lambda' in known.params || lambda !== undefined) {
    if (typeof lambda === 'object' && lambda !== null) checkFields(where, 'lambda', lambda, annealed);
    else expected(typeof lambda === 'number', where, 'lambda, a number or base, gamma, power and least', lambda);
  }
  const others = negativesOf(margin);
  checkRule(where, 'negatives', others, negatives);
  expected(
    !(typeof scale === 'object' && scale.rule === 'learned') || (others.rule === 'plain' && !margin.cosineEpsilon),
    where,
    'a scale that is not learned where negatives are reweighted or cosines clipped',
    'learned',
  );
  if (method === 'adaptiveface')
    expected(unit[0](fields.margin), where, 'margin.margin in [0, 1] of adaptiveface', fields.margin);
  const additive =
    method === 'cosface' || method === 'adaptiveface' || ('variant' in known.params && fields.variant === 'am');
  expected(
    !additive || fields.overflow === undefined || fields.overflow === 'none' || fields.overflow === 'easy',
    where,
    `overflow none or easy of an additive margin (${method})`,
    fields.overflow,
  );
  named(where, () => native.checkMargin(nativeMargin(margin, { numClasses })));
  // Last: of options that other methods have, what is above says why they do not go together.
  checkOptions(where, margin, ['method', ...optionsOf(margin.method)], `margin ${margin.method} with`);
}

/** What running numbers a caller may give. */
const running = [
  'scale',
  't',
  'lambda',
  'normMean',
  'normStd',
  'bias',
] as const satisfies readonly (keyof MarginState)[];

/** The kernels' numbers of a margin over so many classes, with its running numbers where they are; throws what is wrong. */
export function checkedMargin(
  operation: string,
  margin: Margin,
  numClasses: number,
  state: Omit<MarginState, 'numClasses'> = {},
): MarginParams {
  checkMargin(margin, numClasses, operation);
  checkOptions(operation, state, running, 'state');
  checkNumbers(operation, state);
  return nativeMargin(margin, { numClasses, ...state });
}
