export { AdamW, type AdamWOptions } from './adamw.js';
export type { Optimizer } from './optimizer.js';
export { type ScheduleName, type ScheduleOptions, schedule } from './schedules.js';
export { Sgd, type SgdOptions } from './sgd.js';
