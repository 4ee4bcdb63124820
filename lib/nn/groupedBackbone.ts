import { expected } from '../errors.js';
import type { Tensor } from '../tensor.js';
import { GroupFace } from './groupFace.js';
import { Module } from './module.js';

/** What the trainer and the evaluation take: images [N, H, W, C] → features [N, D]. */
export type Backbone = Module & { readonly embeddingSize: number };

/**
 * A backbone with GroupFace behind it, as one backbone: its embeddings are GroupFace's.  Tensors have the backbone's
 * own names, and `groupFace.…`.
 *
 * @example
 * const inner = iresnet18();
 * const backbone = new GroupedBackbone(inner, new GroupFace({ features: inner.embeddingSize }));
 */
export class GroupedBackbone extends Module {
  readonly #backbone: Backbone;
  readonly groupFace: GroupFace;
  readonly embeddingSize: number;

  constructor(backbone: Backbone, groupFace: GroupFace) {
    super();
    expected(backbone instanceof Module, 'GroupedBackbone', 'a backbone, such as nn.iresnet18()', backbone);
    expected(groupFace instanceof GroupFace, 'GroupedBackbone', 'a GroupFace', groupFace);
    this.#backbone = backbone;
    this.groupFace = groupFace;
    this.embeddingSize = groupFace.embeddingSize;
  }

  override *namedTensors(prefix = ''): Generator<[string, Tensor]> {
    yield* this.#backbone.namedTensors(prefix);
    yield* super.namedTensors(prefix);
  }

  override train(training = true): this {
    this.#backbone.train(training);
    return super.train(training);
  }

  override forward(x: Tensor): Tensor {
    return this.groupFace.forward(this.features(x)).embedding;
  }

  /** What GroupFace is given. */
  features(x: Tensor): Tensor {
    return this.#backbone.forward(x);
  }
}
