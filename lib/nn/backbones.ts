/** The networks by name: published depths, and a small one for 32 × 32 input. */
import { IResNet, type IResNetOptions } from './iresnet.js';

type Options = Omit<Partial<IResNetOptions>, 'blocks' | 'widths' | 'stemStride'>;

const published =
  (blocks: readonly number[]) =>
  (options: Options = {}) =>
    new IResNet({ ...options, blocks });

export const iresnet18 = published([2, 2, 2, 2]);
export const iresnet34 = published([3, 4, 6, 3]);
export const iresnet50 = published([3, 4, 14, 3]);
export const iresnet100 = published([3, 13, 30, 3]);

/** The same blocks for small pictures: a stem of stride 2, two stages, 256 features. */
export const iresnetSmall = (options: Options & { widths?: readonly number[]; stemWidth?: number } = {}): IResNet =>
  new IResNet({
    imageSize: 32,
    channels: 1,
    embeddingSize: 256,
    stemWidth: 24,
    widths: [48, 96],
    ...options,
    blocks: [1, 1],
    stemStride: 2,
  });

/** What a configuration can name. */
export const backbones = { iresnet18, iresnet34, iresnet50, iresnet100, iresnetSmall } as const;
export type BackboneName = keyof typeof backbones;
