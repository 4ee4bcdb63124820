/** Alignment: similarities of five points onto the templates, and a warped picture; float64 on the host. */
import { alignmentTemplates, similarityTransform, warpAffine } from '../../data/index.js';
import type { GoldenCase, GoldenFile } from './goldenFile.js';
import { type Measurements, worst } from './measure.js';

export function alignCases(file: GoldenFile): GoldenCase[] {
  const { name, family, source } = file;
  return [{ name, family, source, precisions: ['float64'], measure: () => measureAlign(file) }];
}

/** The source estimates in float32, which moves M by up to 1e-3 and a mapped point by less than 1e-4 pixels. */
const allowedOfM = 1e-3;

function measureAlign(file: GoldenFile): Measurements {
  const landmarks = file.values('landmarks');
  const cases = Array.from({ length: landmarks.length / 10 }, (_, i) => landmarks.subarray(i * 10, (i + 1) * 10));
  const matrices = (template: Float64Array) => cases.flatMap((points) => [...similarityTransform(points, template)]);
  const measured: Record<string, [error: number, allowed: number]> = {};
  for (const [size, key] of Object.entries({ '112x112': '112', '128x128': '128', '96x112': '96x112' })) {
    const template = alignmentTemplates[size as keyof typeof alignmentTemplates];
    const own = file.maybe(`template${key}`);
    if (own) measured[`template${key}_abs`] = [worst(template, own), 1e-4];
    if (file.has(`M${key}`)) measured[`M${key}_abs`] = [worst(matrices(template), file.values(`M${key}`)), allowedOfM];
  }
  if (file.has('warp_image')) {
    const [height, width, channels] = file.shape('warp_image');
    const [outHeight, outWidth] = file.shape('warp_out');
    const data = Uint8Array.from(file.values('warp_image'));
    const out = { height: outHeight, width: outWidth };
    const { data: warped } = warpAffine({ data, height, width, channels }, file.values('warp_M'), out);
    const matrix = similarityTransform(file.values('warp_landmarks'), alignmentTemplates['112x112']);
    measured.warp_M_abs = [worst(matrix, file.values('warp_M')), allowedOfM];
    // Its weights are fixed-point numbers, within a grey level of exact ones.
    measured.warp_levels = [worst(warped, file.values('warp_out')), 1];
  }
  return Object.fromEntries(Object.entries(measured).map(([key, [error, allowed]]) => [key, { error, allowed }]));
}
