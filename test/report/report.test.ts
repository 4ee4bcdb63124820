import { createHash } from 'node:crypto';
import { mkdir, mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { decodeImage } from '../../lib/data/decode.js';
import { compact, count, duration, percent, rate } from '../../lib/report/format.js';
import { html, scriptJson } from '../../lib/report/html.js';
import { encodePng } from '../../lib/report/png.js';
import { renderReport, writeReport } from '../../lib/report/report.js';
import type { ReportData } from '../../lib/report/reportData.js';
import { sampleReport, sampleTier } from './sample.js';

const ids = (page: string) => [...page.matchAll(/<section id="([a-z]+)"/g)].map(([, id]) => id);

/** The visible words of the page, or of what follows `from`. */
const words = (page: string, from = '<main>') =>
  page
    .slice(page.indexOf(from))
    .replace(/<script[\s\S]*?<\/script>/g, '')
    .replace(/<[^>]*>/g, ' ')
    .replace(/\s+/g, ' ');

describe('renderReport', () => {
  const page = renderReport(sampleReport);

  it('has every section, each linked from the top', () => {
    const all = ['summary', 'comparison', 'training', 'verification', 'distributions', 'neighbours', 'setup'];
    expect(ids(page)).toEqual(all);
    for (const id of all) expect(page).toContain(`<a href="#${id}">`);
  });

  it('states the numbers with the rule they follow', () => {
    const text = words(page);
    for (const number of ['91.23 %', '80.42 %', '95.24 %', '98.11 % ± 0.40', '12 min 19 s', '1.58 M', '17.2 %']) {
      expect(text).toContain(number);
    }
    expect(text).toContain('TAR, rank-1: every pair of the tier; gallery noto-sans-jp');
    expect(text).toContain('Accuracy: LFW protocol over 6,000 pairs');
    expect(text).toContain('3-fold accuracy');
  });

  it('warns where a handful of impostor pairs decide a threshold', () => {
    expect(words(page)).toContain('≈ 4 *');
    expect(words(page)).toContain('Fewer than ten impostor pairs');
    const wide = renderReport({ ...sampleReport, tiers: [{ ...sampleTier, impostorPairs: 4_000_000 }] });
    expect(words(wide)).not.toContain('Fewer than ten impostor pairs');
  });

  it('compares by tier and marks the best of each column', () => {
    const rows = [...page.slice(page.indexOf('id="comparison"')).matchAll(/<tr[^>]*><td>(.*?)<\/td>(.*?)<\/tr>/g)];
    const cells = (row: string) =>
      [...row.matchAll(/<td class="([^"]*)">([^<]*)</g)].map(([, type, text]) => [text, type.includes('best')]);
    expect(rows[0][1]).toBe('raw pixels');
    expect(cells(rows[0][2])).toEqual([
      ['40.40', false],
      ['–', false],
      ['97.00', true],
      ['–', false],
      ['–', false],
      ['–', false],
    ]);
    expect(rows[1][1]).toBe('this model');
    expect(cells(rows[1][2])).toEqual([
      ['91.23', true],
      ['80.42', true],
      ['95.24', false],
      ['91.23', true],
      ['80.42', true],
      ['80.00', true],
    ]);
  });

  it('holds a place for every chart that it draws', () => {
    const json = /<script type="application\/json" id="chart-data">(.*?)<\/script>/s.exec(page)?.[1] ?? '';
    const charts = JSON.parse(json) as { id: string }[];
    const places = [...page.matchAll(/class="chart" id="chart-([a-z0-9-]+)"/g)].map(([, id]) => id);
    expect(places.sort()).toEqual(charts.map((chart) => chart.id).sort());
  });

  it('loads nothing', () => {
    const markup = page.replace(/<script[\s\S]*?<\/script>/g, '');
    for (const [, target] of markup.matchAll(/(?:src|href)="([^"]*)"/g)) expect(target).toMatch(/^(#|data:)/);
    expect(markup).not.toMatch(/url\(|@import|<iframe|<object|<embed/);
  });

  it('allows its own script and no other', () => {
    const own = /<script>([\s\S]*?)<\/script>/.exec(page)?.[1] ?? '';
    expect(own).toContain('var uPlot=');
    expect(own).toContain('Permission is hereby granted');
    const hash = createHash('sha256').update(own).digest('base64');
    expect(page).toContain(`script-src &#39;sha256-${hash}&#39;`);
  });
});

describe('hostile text', () => {
  const attack = `</script></title></style><script>alert(1)</script><img src=x onerror="alert(1)">'"&\u2028\u2029`;
  const image = { png: `data:image/png;base64,AA" onerror="alert(1)`, label: 0, caption: attack };
  const tier = {
    ...sampleTier,
    name: attack,
    description: attack,
    rule: attack,
    accuracy: { mean: 0.5, std: 0, rule: attack, folds: [] },
    wrong: [{ probe: image, neighbour: { ...image, png: 'https://example.org/x.png' }, score: 0.5, best: 0.4 }],
  };
  const page = renderReport({
    ...sampleReport,
    title: attack,
    generatedAt: attack,
    config: { [attack]: attack },
    environment: { [attack]: attack },
    tiers: [tier],
    baselines: [{ name: attack, tiers: [{ name: attack, rank1: 0.1, tar: [] }] }],
  });

  it('is inert wherever it stands', () => {
    expect(page).not.toContain('<script>alert');
    expect(page).not.toContain('<img src=x');
    expect(page).not.toMatch(/[\u2028\u2029](?=[^<]*<\/script>)/);
    expect([...page.matchAll(/<script/g)].length).toBe(2);
    expect([...page.matchAll(/<\/script>/g)].length).toBe(2);
    expect([...page.matchAll(/&lt;script&gt;alert\(1\)&lt;\/script&gt;/g)].length).toBeGreaterThan(8);
  });

  it('does not become a picture', () => {
    expect(page).not.toContain('<img');
    expect(page).not.toContain('example.org');
    expect([...page.matchAll(/no picture/g)].length).toBe(2);
  });

  it('survives in the chart data as it was', () => {
    const json = /id="chart-data">(.*?)<\/script>/s.exec(page)?.[1] ?? '';
    expect(json).not.toMatch(/[<>&\u2028\u2029]/);
    const roc = (JSON.parse(json) as { id: string; series: { label: string }[] }[]).find(({ id }) => id === 'roc');
    expect(roc?.series[0].label).toBe(attack);
  });
});

describe('missing pieces', () => {
  const cases: { why: string; data: Partial<ReportData>; shown: string[] }[] = [
    {
      why: 'no metrics',
      data: { metrics: [] },
      shown: ['summary', 'comparison', 'verification', 'distributions', 'neighbours', 'setup'],
    },
    {
      why: 'no baselines',
      data: { baselines: [] },
      shown: ['summary', 'training', 'verification', 'distributions', 'neighbours', 'setup'],
    },
    { why: 'no tiers', data: { tiers: [] }, shown: ['summary', 'training', 'setup'] },
    { why: 'nothing but a run', data: { tiers: [], metrics: [], baselines: [] }, shown: ['summary', 'setup'] },
    {
      why: 'a tier with numbers only',
      data: {
        tiers: [{ ...sampleTier, tar: [], roc: [], wrong: [], histogram: { centers: [], genuine: [], impostor: [] } }],
        baselines: [],
      },
      shown: ['summary', 'training', 'verification', 'setup'],
    },
  ];
  for (const { why, data, shown } of cases) {
    it(why, () => expect(ids(renderReport({ ...sampleReport, ...data }))).toEqual(shown));
  }

  it('has no script where there is no chart', () => {
    expect(renderReport({ ...sampleReport, tiers: [], metrics: [] })).not.toContain('<script');
  });

  it('shows a dash for what is not a number, and says how many losses are lost', () => {
    const none = null as unknown as number;
    const page = renderReport({
      ...sampleReport,
      config: undefined,
      summary: {
        trainSeconds: NaN,
        imagesPerSecond: Infinity,
        epochs: none,
        steps: none,
        images: NaN,
        identities: none,
        parameters: none,
        headShare: NaN,
      },
      metrics: [...sampleReport.metrics, { ...sampleReport.metrics[0], step: 999, loss: NaN }],
      tiers: [
        {
          ...sampleTier,
          rank1: NaN,
          auc: none,
          impostorPairs: none,
          accuracy: { mean: NaN, std: none, rule: '', folds: [NaN] },
          tar: [{ far: 1e-3, tar: none, threshold: NaN }],
        },
      ],
    });
    const text = words(page);
    expect(text).not.toMatch(/NaN|null|undefined|Infinity/);
    expect(text).toContain('Logged steps without a finite loss: 1.');
    expect([...words(page).matchAll(/–/g)].length).toBeGreaterThan(14);
  });

  it('spells out numbers of the configuration that JSON lacks', () => {
    const page = renderReport({ ...sampleReport, config: { tau: Infinity, seed: 12n } });
    expect(words(page, '<pre>')).toContain(
      '{ &quot;tau&quot;: &quot;Infinity&quot;, &quot;seed&quot;: &quot;12&quot; }',
    );
  });
});

describe('html', () => {
  it('escapes values, not markup', () => {
    expect(html`<p>${'<b>'}${html`<i>${"'&"}</i>`}${[1, null, false, undefined]}</p>`.text).toBe(
      '<p>&lt;b&gt;<i>&#39;&amp;</i>1</p>',
    );
  });

  it('writes JSON that parses back', () => {
    const value = { a: '</script><!--\u2028&', b: [1, null] };
    expect(JSON.parse(scriptJson(value))).toEqual(value);
    expect(scriptJson(undefined)).toBe('null');
  });
});

it('formats numbers', () => {
  expect([1e-3, 2e-4, 0.05, 0.5, 1, 0, Number.NaN].map(rate)).toEqual([
    '10⁻³',
    '2·10⁻⁴',
    '5·10⁻²',
    '0.5',
    '1',
    '0',
    '–',
  ]);
  expect([0.4, 75, 3599.7, 3725].map(duration)).toEqual(
    ['0.4 s', '1 min 15 s', '1 h 00 min', '1 h 02 min'].map((text) => text.replace(/(\d) (?=[a-z])/g, '$1\u202f')),
  );
  expect([999, 5000, 12_345, 999_960, 65_131_000, 2.5e9].map(compact)).toEqual([
    '999',
    '5,000',
    '12.3\u202fk',
    '1000\u202fk',
    '65.1\u202fM',
    '2.5\u202fG',
  ]);
  expect([percent(0.99999), percent(0.5, 0), count(1234567)]).toEqual(['100.00\u202f%', '50\u202f%', '1,234,567']);
});

describe('encodePng', () => {
  const decode = (uri: string) =>
    decodeImage(Buffer.from(uri.slice('data:image/png;base64,'.length), 'base64'), { channels: 3 });

  it('keeps every RGB pixel', () => {
    const image = Uint8Array.from({ length: 5 * 3 * 3 }, (_, i) => (i * 37) % 256);
    const { data, shape } = decode(encodePng(image, 5, 3, 3));
    expect(shape).toEqual([3, 5, 3]);
    expect(data).toEqual(image);
  });

  it('repeats grey', () => {
    const { data } = decode(encodePng(Uint8Array.of(0, 10, 200, 255), 4, 1, 1));
    expect([...data]).toEqual([0, 0, 0, 10, 10, 10, 200, 200, 200, 255, 255, 255]);
  });

  it('refuses an image of another size', () => {
    expect(() => encodePng(new Uint8Array(11), 2, 2, 3)).toThrow(
      'encodePng: expected 2×2×3 = 12 bytes (at least 1), got 11',
    );
    expect(() => encodePng(new Uint8Array(0), 0, 2, 3)).toThrow('got 0');
  });
});

describe('writeReport', () => {
  let folder: string;
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'report-'));
  });
  afterEach(() => rm(folder, { recursive: true }));

  it('makes the folder, replaces the page, leaves nothing else', async () => {
    const path = join(folder, 'run', 'report.html');
    await writeReport(path, { ...sampleReport, title: 'first' });
    await writeReport(path, { ...sampleReport, title: 'second' });
    expect(await readFile(path, 'utf8')).toBe(renderReport({ ...sampleReport, title: 'second' }));
    expect(await readdir(join(folder, 'run'))).toEqual(['report.html']);
  });

  it('leaves no half page when it cannot write', async () => {
    const path = join(folder, 'report.html');
    await mkdir(join(path, 'occupied'), { recursive: true });
    await expect(writeReport(path, sampleReport)).rejects.toThrow();
    expect(await readdir(folder)).toEqual(['report.html']);
  });
});
