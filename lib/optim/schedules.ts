/** Learning rates as functions of the step, so that a resumed run needs nothing but its step number. */
import { checkFloat32, checkOptions, expected } from '../errors.js';

export interface ScheduleOptions {
  readonly base: number;
  readonly totalSteps: number;
  readonly warmupSteps?: number;
  /** poly: the exponent. */
  readonly power?: number;
  /** step: the steps at which the rate is multiplied by `gamma`. */
  readonly milestones?: readonly number[];
  readonly gamma?: number;
}

/** What follows the warm-up; t is the share of it that has passed, in [0, 1). */
const decays = {
  constant: () => 1,
  poly: ({ power = 1 }: ScheduleOptions, _step: number, t: number) => (1 - t) ** power,
  cosine: (_: ScheduleOptions, _step: number, t: number) => (1 + Math.cos(Math.PI * t)) / 2,
  step: ({ milestones = [], gamma = 0.1 }: ScheduleOptions, step: number) =>
    gamma ** milestones.filter((m) => step >= m).length,
} as const;

export type ScheduleName = keyof typeof decays;

/**
 * The rate at each step, from 0: a linear warm-up (base·(step + 1)/warmupSteps), then the decay.
 *
 * @example
 * const lr = schedule('poly', { base: 0.1, totalSteps: 1000, warmupSteps: 100, power: 2 });
 * lr(0); // 0.001
 */
export function schedule(name: ScheduleName, options: ScheduleOptions): (step: number) => number {
  expected(Object.hasOwn(decays, name), 'schedule', `a name (${Object.keys(decays).join(', ')})`, name);
  checkOptions('schedule', options, ['base', 'totalSteps', 'warmupSteps', 'power', 'milestones', 'gamma']);
  const { base, totalSteps, warmupSteps = 0, power = 1, milestones = [], gamma = 0.1 } = options;
  const count = (x: number) => Number.isSafeInteger(x) && x >= 0;
  expected(Number.isFinite(base) && base >= 0, 'schedule', 'a finite base of at least 0', base);
  expected(count(totalSteps), 'schedule', 'totalSteps, an integer of at least 0', totalSteps);
  expected(count(warmupSteps), 'schedule', 'warmupSteps, an integer of at least 0', warmupSteps);
  expected(Number.isFinite(power) && power >= 0, 'schedule', 'a finite power of at least 0', power);
  expected(Number.isFinite(gamma) && gamma >= 0, 'schedule', 'a finite gamma of at least 0', gamma);
  expected(
    Array.isArray(milestones) && milestones.every((m, i) => Number.isFinite(m) && m >= (milestones[i - 1] ?? 0)),
    'schedule',
    'milestones, ascending steps of at least 0',
    milestones,
  );
  checkFloat32('schedule', { rates: base * Math.max(1, gamma ** milestones.length) });
  expected(warmupSteps <= totalSteps, 'schedule', `at most ${totalSteps} warm-up steps`, warmupSteps);
  const decay = decays[name];
  return (step) => {
    expected(Number.isFinite(step) && step >= 0, 'schedule', 'a step of at least 0', step);
    if (step < warmupSteps) return (base * (step + 1)) / warmupSteps;
    return base * decay(options, step, Math.min(1, (step - warmupSteps) / Math.max(1, totalSteps - warmupSteps)));
  };
}
