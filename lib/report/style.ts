/** The page's own style sheet; charts read its custom properties too. */
export const style = `
:root {
  color-scheme: light dark;
  --page: #f6f7f9; --card: #ffffff; --text: #1b2430; --muted: #596575; --line: #dde2e8; --grid: #e8ebef;
  --accent: #2563c9; --tint: #eef4ff;
  --c0: #2563c9; --c1: #d9620b; --c2: #0b8a62; --c3: #8a4fc7; --c4: #0f8fa8; --c5: #c23b6b;
}
@media (prefers-color-scheme: dark) {
  :root:not(.light) {
    --page: #101419; --card: #181e25; --text: #e4e9ef; --muted: #98a4b3; --line: #2b343f; --grid: #262e38;
    --accent: #7fb0ff; --tint: #1b2838;
    --c0: #6ea4ff; --c1: #f59a4c; --c2: #44c99a; --c3: #c194f2; --c4: #4cc3da; --c5: #ef7fa7;
  }
}
:root.light { color-scheme: light; }
*, *::before, *::after { box-sizing: border-box; }
body {
  margin: 0; background: var(--page); color: var(--text);
  font: 15px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
  -webkit-text-size-adjust: 100%;
}
header, main, footer { max-width: 1140px; margin: 0 auto; padding: 0 20px; }
header { padding-top: 36px; }
h1 { font-size: 27px; line-height: 1.25; margin: 0 0 4px; letter-spacing: -0.01em; overflow-wrap: anywhere; }
h2 { font-size: 19px; margin: 44px 0 6px; letter-spacing: -0.005em; }
h3 { font-size: 15px; margin: 0; overflow-wrap: anywhere; }
p { margin: 0 0 12px; max-width: 78ch; }
a { color: var(--accent); }
.muted, figcaption, .rule { color: var(--muted); }
.rule, figcaption, .note { font-size: 13px; }
nav { display: flex; flex-wrap: wrap; gap: 4px 18px; margin-top: 14px; font-size: 14px; }
nav a { text-decoration: none; }
nav a:hover { text-decoration: underline; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 16px 18px; min-width: 0; }
.grid { display: grid; gap: 16px; grid-template-columns: repeat(auto-fit, minmax(min(320px, 100%), 1fr)); }
.grid.two { grid-template-columns: repeat(auto-fit, minmax(min(440px, 100%), 1fr)); }
.facts { display: flex; flex-wrap: wrap; gap: 12px 34px; margin: 18px 0 20px; padding: 0; }
.facts div, .numbers div { display: flex; flex-direction: column-reverse; justify-content: flex-end; }
dt { color: var(--muted); font-size: 13px; }
dd { margin: 0; font-variant-numeric: tabular-nums; }
.facts dd { font-size: 18px; font-weight: 600; }
.numbers { display: grid; grid-template-columns: repeat(auto-fill, minmax(130px, 1fr)); gap: 14px 18px; margin: 14px 0; }
.numbers dd { font-size: 22px; line-height: 1.25; font-weight: 650; letter-spacing: -0.01em; }
.numbers dd { white-space: nowrap; }
.numbers dd small { font-size: 12px; font-weight: 400; color: var(--muted); letter-spacing: 0; }
.tier { display: flex; flex-direction: column; border-top: 3px solid var(--tier, var(--accent)); }
.tier .foot { margin-top: auto; padding-top: 10px; border-top: 1px solid var(--line); }
.foot p { margin: 0 0 4px; }
.scroll { overflow-x: auto; padding: 4px 0; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
.scroll > table { width: 100%; }
.scroll th, .scroll td { padding: 7px 12px; text-align: right; white-space: nowrap; }
.scroll th { font-weight: 600; font-size: 13px; color: var(--muted); }
.scroll th:first-child, .scroll td:first-child { text-align: left; }
.scroll tbody tr { border-top: 1px solid var(--line); }
.scroll th[colspan] { text-align: center; color: var(--text); }
.prose { white-space: normal; text-align: left; min-width: 240px; font-size: 13px; color: var(--muted); }
.scroll th.start, .scroll td.start { border-left: 1px solid var(--line); }
tr.ours { background: var(--tint); }
tr.ours td:first-child { font-weight: 600; }
td.best { font-weight: 700; }
figure { margin: 0; }
figure h3 { margin-bottom: 8px; }
.chart { min-height: 200px; }
figcaption { margin-top: 6px; }
.uplot { color: var(--text); font: inherit; }
.uplot .u-legend { font-size: 13px; text-align: left; margin: 4px 0 0; font-variant-numeric: tabular-nums; }
.uplot .u-legend th { font-weight: 500; color: var(--muted); }
.uplot .u-inline tr { margin-right: 10px; }
.u-cursor-x, .u-cursor-y { border-color: var(--muted) !important; }
.u-select { background: color-mix(in srgb, var(--accent) 15%, transparent); }
.pairs { display: grid; gap: 12px; grid-template-columns: repeat(auto-fill, minmax(min(250px, 100%), 1fr)); margin: 12px 0 24px; }
.pair { padding: 12px; }
.pictures { display: grid; grid-template-columns: 1fr 1fr; gap: 10px; }
.pictures figcaption { margin-top: 4px; line-height: 1.35; overflow-wrap: anywhere; }
.pictures figcaption b { display: block; white-space: nowrap; }
.pictures img, .pictures .lost {
  display: block; width: 100%; aspect-ratio: 1; object-fit: contain; border-radius: 6px;
  background: var(--grid); image-rendering: pixelated;
}
.lost { display: grid !important; place-items: center; color: var(--muted); font-size: 13px; }
.scores { display: grid; grid-template-columns: 1fr auto; margin: 8px 0 0; font-size: 13px; }
details { margin: 12px 0; }
summary { cursor: pointer; font-weight: 600; }
pre { margin: 12px 0 0; overflow: auto; font: 13px/1.5 ui-monospace, "SF Mono", Menlo, Consolas, monospace; tab-size: 2; }
.environment { display: grid; grid-template-columns: max-content 1fr; gap: 6px 22px; margin: 12px 0 0; }
.environment dd { overflow-wrap: anywhere; }
footer { padding: 32px 20px 48px; color: var(--muted); font-size: 13px; }
@media (max-width: 560px) {
  body { font-size: 14px; }
  header, main { padding-left: 14px; padding-right: 14px; }
  header { padding-top: 22px; }
  .card { padding: 14px; }
  .facts { gap: 10px 24px; }
  .scroll th, .scroll td { padding: 6px 9px; }
  .pairs { grid-template-columns: 1fr 1fr; }
  .pair { padding: 8px; }
  .pictures figcaption, .scores, .scores dt { font-size: 12px; }
  .environment { grid-template-columns: 1fr; gap: 0; }
  .environment dd { margin-bottom: 8px; }
}
@media print {
  header, main { padding-left: 0; padding-right: 0; }
  body { background: #fff; font-size: 10pt; print-color-adjust: exact; }
  nav, .u-legend .u-value { display: none !important; }
  .card { break-inside: avoid; }
  .grid.two { grid-template-columns: 1fr 1fr; }
  .scroll { overflow: visible; }
  .scroll th, .scroll td { padding: 4px; font-size: 8.5pt; white-space: normal; }
  .uplot, .uplot .u-wrap, .uplot canvas { width: 100% !important; height: auto !important; }
  h2, h3 { break-after: avoid; }
  pre { white-space: pre-wrap; overflow-wrap: anywhere; }
}
`;
