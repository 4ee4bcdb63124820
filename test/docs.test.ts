/** What the docs have from the sources is what the sources say. */
import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { type MarginName, margins } from '../lib/margins/index.js';

const root = fileURLToPath(new URL('..', import.meta.url));
const text = (file: string) => readFileSync(path.join(root, file), 'utf8');

it.each(['margin-docs', 'conformance-table'])('scripts/%s.mjs finds nothing to rewrite', (script) => {
  const { status, stderr } = spawnSync(process.execPath, [path.join(root, `scripts/${script}.mjs`), '--check'], {
    encoding: 'utf8',
  });
  expect(stderr).toBe('');
  expect(status).toBe(0);
});

describe.each(Object.keys(margins) as MarginName[])('%s', (name) => {
  it('has a row, a section and a picture', () => {
    const page = text('docs/margins.md');
    expect(page).toContain(`| [\`${name}()\`](#${name}) | ${margins[name].formula} |`);
    expect(page).toMatch(new RegExp(`\\n### ${name}\\n[\\s\\S]*?\\(margins/${name}\\.svg\\)`));
  });
  it('has curves without gaps in their numbers, legible on light and dark pages', () => {
    const picture = text(`docs/margins/${name}.svg`);
    expect(picture).not.toMatch(/NaN|Infinity|undefined/);
    expect(picture).toContain('prefers-color-scheme:dark');
    // Two panels, a line and a legend each: 181 points a curve.
    expect(picture.match(/<path class="c0"/g)).toHaveLength(3);
  });
});

it('links between pages lead somewhere', () => {
  const pages = readdirSync(path.join(root, 'docs')).filter((file) => file.endsWith('.md'));
  const anchors = (page: string) =>
    [...text(`docs/${page}`).matchAll(/^#+ (.*)$/gm)].map(([, title]) =>
      title
        .toLowerCase()
        .replace(/[^\p{L}\d\s-]/gu, '')
        .replaceAll(' ', '-'),
    );
  const broken = pages.flatMap((page) =>
    [...text(`docs/${page}`).matchAll(/\]\((?!https?:)([^)#\s]*)(?:#([^)]+))?\)/g)].flatMap(([, file, anchor]) => {
      const target = file || page;
      const there = readdirSync(path.join(root, 'docs', path.dirname(target))).includes(path.basename(target));
      const found = !anchor || (target.endsWith('.md') && anchors(target).includes(anchor));
      return there && found ? [] : [`docs/${page}: ${file}#${anchor ?? ''}`];
    }),
  );
  expect(broken).toEqual([]);
});
