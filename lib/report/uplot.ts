import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';

export interface UplotFiles {
  readonly script: string;
  readonly style: string;
}

let files: UplotFiles | undefined;

/** uPlot as its package ships it, with its licence in front, since a report hands out a copy. */
export function uplotFiles(): UplotFiles {
  if (files === undefined) {
    const { resolve } = createRequire(import.meta.url);
    const read = (path: string) => readFileSync(resolve(`uplot/${path}`), 'utf8');
    const licence = read('LICENSE').trim();
    files = { script: `/*!\n${licence}\n*/\n${read('dist/uPlot.iife.min.js')}`, style: read('dist/uPlot.min.css') };
  }
  return files;
}
