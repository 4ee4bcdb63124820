/** The golden files of this folder. */
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { type GoldenCase, GoldenFile, type Precision } from '../../lib/train/conformance/goldenFile.js';
import { type HeadCase, headCases, isHead } from '../../lib/train/conformance/heads.js';
import { casesOf, goldenFiles } from '../../lib/train/conformance/index.js';

export { largest, rowRelative, worst } from '../../lib/train/conformance/measure.js';

export const goldenFolder = fileURLToPath(new URL('.', import.meta.url));

export const goldenFile = (name: string): GoldenFile => GoldenFile.read(path.join(goldenFolder, `${name}.safetensors`));

/** Every file, by family; a network of any depth is an iresnet. */
export const filesByFamily: ReadonlyMap<string, GoldenFile[]> = (() => {
  const families = new Map<string, GoldenFile[]>();
  for (const name of goldenFiles(goldenFolder)) {
    const file = goldenFile(name.replace('.safetensors', ''));
    const family = file.family.replace(/^iresnet\d+$/, 'iresnet');
    families.set(family, [...(families.get(family) ?? []), file]);
  }
  return families;
})();

/** Each case in each of its precisions, for it.each. */
export const runsOf = (family: string): [string, Precision, GoldenCase][] =>
  (filesByFamily.get(family) ?? [])
    .flatMap(casesOf)
    .flatMap((each) =>
      each.precisions.map((precision): [string, Precision, GoldenCase] => [each.name, precision, each]),
    );

/** Files of heads that have several steps. */
export const stepFiles = (): [string, HeadCase[]][] =>
  [...filesByFamily.values()]
    .flat()
    .filter((file) => isHead(file) && file.shape('X').length === 3)
    .map((file) => [file.name, headCases(file)]);
