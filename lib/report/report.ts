import { createHash } from 'node:crypto';
import { mkdir, rename, rm, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { chartScript } from './chartScript.js';
import { allCharts } from './charts.js';
import { html, scriptJson, trusted } from './html.js';
import type { ReportData } from './reportData.js';
import { sections } from './sections.js';
import { style } from './style.js';
import { uplotFiles } from './uplot.js';

/**
 * One HTML page with everything in it: it loads nothing, from the network or from files.
 *
 * @example
 * await writeFile('report.html', renderReport(data));
 */
export function renderReport(data: ReportData): string {
  const uplot = uplotFiles();
  const charts = allCharts(data);
  const parts = sections(data, charts);
  const script = `${uplot.script}\n${chartScript}`;
  // The browser itself refuses any other script, and whatever would reach the network.
  const policy = [
    "default-src 'none'",
    `script-src 'sha256-${createHash('sha256').update(script).digest('base64')}'`,
    "style-src 'unsafe-inline'",
    'img-src data:',
    "base-uri 'none'",
    "form-action 'none'",
  ].join('; ');

  return html`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="${policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>${data.title}</title>
<link rel="icon" href="data:,">
<style>${trusted(uplot.style)}${trusted(style)}</style>
</head>
<body>
<header>
<h1>${data.title}</h1>
<div class="muted">${data.generatedAt}</div>
<nav aria-label="Sections">${parts.map(({ id, title }) => html`<a href="#${id}">${title}</a> `)}</nav>
</header>
<main>
${charts.length > 0 && html`<noscript><p class="note">The charts are drawn by this page’s own script; without it, only numbers and pictures show.</p></noscript>`}
${parts.map(({ id, title, body }) => html`<section id="${id}">\n<h2>${title}</h2>\n${body}\n</section>\n`)}
</main>
<footer>Made by flashmargin. Charts: uPlot (MIT licence, in this file).</footer>
${
  charts.length > 0 &&
  html`<script type="application/json" id="chart-data">${trusted(scriptJson(charts))}</script>
<script>${trusted(script)}</script>`
}
</body>
</html>
`.text;
}

/**
 * Writes the page to `path` in one piece: a reader finds the old page or the new one, never half of it.
 *
 * @example
 * await writeReport('runs/kanji/report.html', data);
 */
export async function writeReport(path: string, data: ReportData): Promise<void> {
  const page = renderReport(data);
  const temporary = `${path}.${process.pid}.tmp`;
  await mkdir(dirname(path), { recursive: true });
  try {
    await writeFile(temporary, page);
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
}
