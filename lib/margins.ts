/** One row a method: the published defaults and where they come from.  Types, presets and the CLI derive from it. */
import type { MarginParams } from './binding.js';

interface MarginSpec {
  readonly params: { readonly scale: number; readonly margin: number };
  /** The unit of `margin`. */
  readonly unit: 'none' | 'cosine' | 'radians';
  readonly formula: string;
  readonly paper: string;
}

export const margins = {
  softmax: {
    params: { scale: 64, margin: 0 },
    unit: 'none',
    formula: 'φ = cos θ',
    paper: 'NormFace, Wang et al. 2017, arXiv:1704.06369',
  },
  cosface: {
    params: { scale: 64, margin: 0.35 },
    unit: 'cosine',
    formula: 'φ = cos θ − m',
    paper: 'CosFace, Wang et al. 2018, arXiv:1801.09414',
  },
  arcface: {
    params: { scale: 64, margin: 0.5 },
    unit: 'radians',
    formula: 'φ = cos(θ + m)',
    paper: 'ArcFace, Deng et al. 2019, arXiv:1801.07698',
  },
} as const satisfies Record<string, MarginSpec>;

export type MarginName = keyof typeof margins;

/** A margin with its conventions; what MarginHead and marginSoftmax take. */
export type Margin = MarginParams & { readonly method: MarginName };

export type MarginOptions = Partial<Omit<Margin, 'method'>>;

const preset =
  (method: MarginName) =>
  (options: MarginOptions = {}): Margin => ({ method, ...margins[method].params, ...options });

/** Normalised softmax without a margin: NormFace. */
export const softmax = preset('softmax');
/** The same under its published name. */
export const normface = softmax;
/** An additive cosine margin, cos θ − m. */
export const cosface = preset('cosface');
/**
 * An additive angular margin, cos(θ + m).  The default gradient is the exact one; `gradient: 'detached'` is what
 * insightface has computed since 2022-12.
 *
 * @example
 * const margin = arcface({ scale: 30, margin: 0.3 });
 */
export const arcface = preset('arcface');
