export { type ScheduleName, type ScheduleOptions, schedule } from './schedules.js';
export { Sgd, type SgdOptions } from './sgd.js';
