export {
  type BackboneName,
  backbones,
  iresnet18,
  iresnet34,
  iresnet50,
  iresnet100,
  iresnetSmall,
} from './backbones.js';
export { type Backbone, GroupedBackbone } from './groupedBackbone.js';
export { GroupFace, type GroupFaceOptions, type GroupFaceResult } from './groupFace.js';
export { IBasicBlock, IResNet, type IResNetOptions } from './iresnet.js';
export { BatchNorm, Conv2d, Dropout, type LayerOptions, Linear, PRelu, Sequential } from './layers.js';
export { buffer, Module, type StateDict } from './module.js';
