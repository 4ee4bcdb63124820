/** The networks by name: published depths, and a small one for 32 × 32 input. */
import { checkOptions } from '../errors.js';
import { IResNet, type IResNetOptions, networkOptions } from './iresnet.js';

type Options = Omit<IResNetOptions, 'blocks' | 'stemStride'>;

const published =
  (name: string, blocks: readonly number[], defaults: Options & { stemStride?: number } = {}) =>
  (options: Options = {}) => {
    checkOptions(name, options, networkOptions);
    return new IResNet({ ...defaults, ...options, blocks });
  };

export const iresnet18 = published('iresnet18', [2, 2, 2, 2]);
export const iresnet34 = published('iresnet34', [3, 4, 6, 3]);
export const iresnet50 = published('iresnet50', [3, 4, 14, 3]);
export const iresnet100 = published('iresnet100', [3, 13, 30, 3]);

/** The same blocks for small pictures: a stem of stride 2, two stages, 256 features. */
export const iresnetSmall = published('iresnetSmall', [1, 1], {
  imageSize: 32,
  channels: 1,
  embeddingSize: 256,
  stemWidth: 24,
  widths: [48, 96],
  stemStride: 2,
});

/** What a configuration can name. */
export const backbones = { iresnet18, iresnet34, iresnet50, iresnet100, iresnetSmall } as const;
export type BackboneName = keyof typeof backbones;
