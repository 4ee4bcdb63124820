/**
 * The field's residual network (insightface's iresnet): stem, four stages of
 * BN – conv – BN – PReLU – conv – BN blocks without an activation after the addition, and the BN – flatten –
 * dropout – FC – BN neck whose last weight stays 1.
 */

import type { Precision } from '../binding.js';
import { deviceIndex } from '../device.js';
import { checkLists, checkOptions, DeviceError, expected, within } from '../errors.js';
import * as ops from '../ops/index.js';
import { Random } from '../random.js';
import type { Tensor } from '../tensor.js';
import {
  BatchNorm,
  Conv2d,
  checkLayer,
  Dropout,
  type LayerOptions,
  Linear,
  layerOptions,
  PRelu,
  Sequential,
} from './layers.js';
import { Module } from './module.js';

const INIT = { std: 0.1 }; // of every convolution

/** y = BN(conv(PReLU(BN(conv(BN(x)))))) + shortcut(x); the second convolution has the stride. */
export class IBasicBlock extends Module {
  readonly bn1: BatchNorm;
  readonly conv1: Conv2d;
  readonly bn2: BatchNorm;
  readonly prelu: PRelu;
  readonly conv2: Conv2d;
  readonly bn3: BatchNorm;
  readonly downsample: Sequential | undefined;

  constructor(inputs: number, outputs: number, stride: number, options: LayerOptions = {}) {
    super();
    checkLayer('IBasicBlock', { inputs, outputs, stride }, options);
    this.bn1 = new BatchNorm(inputs, options);
    this.conv1 = new Conv2d(inputs, outputs, { ...INIT, ...options });
    this.bn2 = new BatchNorm(outputs, options);
    this.prelu = new PRelu(outputs, options);
    this.conv2 = new Conv2d(outputs, outputs, { stride, ...INIT, ...options });
    this.bn3 = new BatchNorm(outputs, options);
    this.downsample =
      stride !== 1 || inputs !== outputs
        ? new Sequential(
            new Conv2d(inputs, outputs, { kernel: 1, stride, ...INIT, ...options }),
            new BatchNorm(outputs, options),
          )
        : undefined;
  }

  override forward(x: Tensor): Tensor {
    let y = this.conv1.forward(this.bn1.forward(x));
    y = this.conv2.forward(this.bn2.forward(y, { prelu: this.prelu }));
    return this.bn3.forward(y, { shortcut: this.downsample ? this.downsample.forward(x) : x });
  }
}

export interface IResNetOptions extends LayerOptions {
  /** Blocks in each stage. */
  readonly blocks: readonly number[];
  /** Channels of each stage. */
  readonly widths?: readonly number[];
  /** Channels of the stem; the first stage's by default, as published. */
  readonly stemWidth?: number;
  /** Height and width of the input. */
  readonly imageSize?: number;
  readonly channels?: number;
  /** Stride of the stem; 1 in the published networks. */
  readonly stemStride?: number;
  readonly embeddingSize?: number;
  readonly dropout?: number;
  /**
   * Of activations and of what convolutions multiply: bfloat16 on a CUDA device.  Weights, their gradients, statistics
   * and all sums stay float32, and so do the last linear layer and the batch norm behind it.
   */
  readonly precision?: Precision;
}

/** Of every network of these blocks; what else its depth says itself. */
export const networkOptions = [
  'widths',
  'stemWidth',
  'imageSize',
  'channels',
  'embeddingSize',
  'dropout',
  'precision',
  ...layerOptions,
] as const satisfies readonly (keyof IResNetOptions)[];

function checkPrecision(precision: Precision, { device = 'cpu', dtype = 'float32' }: LayerOptions): void {
  const known = precision === 'float32' || precision === 'bfloat16';
  expected(known, 'iresnet', "precision 'float32' or 'bfloat16'", precision);
  if (precision === 'float32') return;
  expected(dtype === 'float32', 'iresnet', "dtype 'float32' with precision 'bfloat16'", dtype);
  if (deviceIndex(device) >= 0) return;
  throw new DeviceError(`iresnet: precision 'bfloat16' needs a CUDA device, got device '${device}'`, {
    code: 'ERR_FM_DEVICE',
    hint: "set device to 'cuda', or precision to 'float32'",
  });
}

/**
 * The whole network: images [N, H, W, C] → features [N, D].
 *
 * @example
 * const net = new IResNet({ blocks: [2, 2, 2, 2] }); // iresnet18 for 112 × 112
 */
export class IResNet extends Module {
  readonly conv1: Conv2d;
  readonly bn1: BatchNorm;
  readonly prelu: PRelu;
  readonly layer1: Sequential;
  readonly layer2: Sequential | undefined;
  readonly layer3: Sequential | undefined;
  readonly layer4: Sequential | undefined;
  readonly bn2: BatchNorm;
  readonly dropout: Dropout | undefined;
  readonly fc: Linear;
  readonly features: BatchNorm;
  readonly embeddingSize: number;
  readonly precision: Precision;

  constructor(options: IResNetOptions) {
    super();
    checkOptions('iresnet', options, ['blocks', 'stemStride', ...networkOptions]);
    const {
      blocks,
      widths = [64, 128, 256, 512],
      imageSize = 112,
      channels = 3,
      stemWidth = widths[0] as number,
      stemStride = 1,
      embeddingSize = 512,
      dropout = 0,
      precision = 'float32',
      ...rest
    } = options;
    checkLists('iresnet', { blocks, widths });
    checkPrecision(precision, rest);
    expected(
      blocks.length >= 1 && blocks.length <= 4 && blocks.length <= widths.length,
      'iresnet',
      'a width for each of the stages (1 to 4)',
      widths,
    );
    const each = (name: string, sizes: readonly number[]) =>
      Array.from(sizes, (size, i) => [`${name}[${i}]`, size] as const);
    const lists = Object.fromEntries([...each('blocks', blocks), ...each('widths', widths)]);
    checkLayer('iresnet', { ...lists, imageSize, channels, stemWidth, stemStride, embeddingSize }, rest);
    expected(within(dropout, 0, 1) && dropout < 1, 'iresnet', 'dropout in [0, 1)', dropout);
    const layer = { ...rest, rng: rest.rng ?? new Random(0) };
    this.conv1 = new Conv2d(channels, stemWidth, { stride: stemStride, ...INIT, ...layer });
    this.bn1 = new BatchNorm(stemWidth, layer);
    this.prelu = new PRelu(stemWidth, layer);
    const stage = (i: number): Sequential | undefined => {
      const count = blocks[i];
      if (count === undefined) return undefined;
      const outputs = widths[i] as number;
      const inputs = i === 0 ? stemWidth : (widths[i - 1] as number);
      return new Sequential(
        ...Array.from(
          { length: count },
          (_, b) => new IBasicBlock(b === 0 ? inputs : outputs, outputs, b === 0 ? 2 : 1, layer),
        ),
      );
    };
    this.layer1 = stage(0) as Sequential;
    this.layer2 = stage(1);
    this.layer3 = stage(2);
    this.layer4 = stage(3);
    const last = widths[blocks.length - 1] as number;
    this.bn2 = new BatchNorm(last, layer);
    this.dropout = dropout > 0 ? new Dropout(dropout) : undefined;
    let side = Math.ceil(imageSize / stemStride);
    for (const _ of blocks) side = Math.ceil(side / 2);
    this.fc = new Linear(last * side * side, embeddingSize, layer);
    this.embeddingSize = embeddingSize;
    this.precision = precision;
    this.features = new BatchNorm(embeddingSize, { ...layer, frozenWeight: true });
  }

  /** Images [N, H, W, C] in [−1, 1] → features [N, D], not normalised. */
  override forward(x: Tensor): Tensor {
    if (this.precision === 'bfloat16') x = ops.cast(x, 'bfloat16');
    x = this.bn1.forward(this.conv1.forward(x), { prelu: this.prelu });
    for (const layer of [this.layer1, this.layer2, this.layer3, this.layer4]) if (layer) x = layer.forward(x);
    x = ops.flatten(this.bn2.forward(x));
    if (this.dropout) x = this.dropout.forward(x);
    if (this.precision === 'bfloat16') x = ops.cast(x, 'float32');
    return this.features.forward(this.fc.forward(x));
  }
}
