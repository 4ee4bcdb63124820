import type { Tensor } from '../tensor.js';
import { type ClipOptions, Optimizer } from './optimizer.js';

export interface AdamWOptions extends ClipOptions {
  /** How much of the means of the gradient and of its square stays at a step. */
  readonly betas?: readonly [number, number];
  readonly eps?: number;
  readonly weightDecay?: number;
}

/**
 * AdamW (Loshchilov and Hutter 2019, arXiv:1711.05101) as PyTorch states it: w ← (1 − lr·λ)w − lr·m̂/(√v̂ + ε), m̂ and v̂
 * the running means of the gradient and of its square, corrected for their start at 0.  One count of steps serves all
 * parameters; one without any gradient does not count.
 *
 * @example
 * const adamw = new AdamW(net.namedParameters(), { betas: [0.9, 0.999], weightDecay: 0.05 });
 * backward(loss);
 * adamw.step(1e-3); // updates, and frees the gradients
 */
export class AdamW extends Optimizer {
  constructor(parameters: Iterable<[string, Tensor]>, options: AdamWOptions = {}) {
    super('AdamW', 'adamw', parameters, options);
  }

  get betas(): readonly [number, number] {
    return this.numbers.betas as readonly [number, number];
  }
  get eps(): number {
    return this.numbers.eps as number;
  }
}
