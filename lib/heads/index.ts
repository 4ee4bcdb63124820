export { type HeadStepOptions, type HeadStepResult, MarginHead, type MarginHeadOptions } from './marginHead.js';
