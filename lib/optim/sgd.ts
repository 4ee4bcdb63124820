import type { Tensor } from '../tensor.js';
import { type ClipOptions, Optimizer } from './optimizer.js';

export interface SgdOptions extends ClipOptions {
  readonly momentum?: number;
  readonly weightDecay?: number;
}

/**
 * SGD with momentum and weight decay as PyTorch states it: g ← g + λw, v ← μv + g, w ← w − lr·v.
 *
 * @example
 * const sgd = new Sgd(net.namedParameters(), { momentum: 0.9, weightDecay: 5e-4 });
 * backward(loss);
 * sgd.step(0.1); // updates, and frees the gradients
 */
export class Sgd extends Optimizer {
  constructor(parameters: Iterable<[string, Tensor]>, options: SgdOptions = {}) {
    super('Sgd', 'sgd', parameters, options);
  }

  get momentum(): number {
    return this.numbers.momentum as number;
  }
}
