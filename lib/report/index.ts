export { encodePng } from './png.js';
export { renderReport, writeReport } from './report.js';
export type { ReportData } from './reportData.js';
