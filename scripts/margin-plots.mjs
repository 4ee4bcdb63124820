// The curves of docs/margins/*.svg, one file a method: φ and the logit against the angle, as the kernels compute them.
import { fileURLToPath } from 'node:url';

const {
  adacosScale,
  arcface,
  asoftmax,
  combined,
  elasticface,
  marginLogits,
  margins,
  mvsoftmax,
  curricularface,
  presetOf,
  setNumThreads,
  sphereface,
  tensor,
  tidy,
} = await import(fileURLToPath(new URL('../dist/index.mjs', import.meta.url)));
setNumThreads(1);

const degrees = Array.from({ length: 181 }, (_, i) => i);
const at = (angle) => [Math.cos((angle * Math.PI) / 180), Math.sin((angle * Math.PI) / 180)];

/** Logits of one row of norm `norm` over classes at the given angles from it, the first being its label. */
function logits(margin, angles, { norm = 1, state, own } = {}) {
  return tidy(() => {
    const K = margin.subCenters ?? 1;
    const rows = angles.flatMap((angle) => Array.from({ length: K }, () => at(angle)).flat());
    const x = tensor(new Float64Array([norm, 0]), [1, 2]);
    const w = tensor(new Float64Array(rows), [angles.length * K, 2]);
    const given = own === undefined ? {} : { margins: tensor(new Float64Array([own]), [1]) };
    return Array.from(marginLogits(x, w, new Int32Array([0]), margin, { state, ...given }).toArray());
  });
}
/** s and the bias, by which a logit becomes φ. */
const parts = (margin, options = {}) => {
  const { bias = 0, scale } = options.state ?? {};
  return { s: scale ?? (typeof margin.scale === 'number' ? margin.scale : (options.norm ?? 1)), bias };
};

/** The label's own curve. */
const target = (name, margin, options) => ({
  name,
  margin,
  options,
  of: (angle) => logits(margin, [angle, 180], options)[0],
});
/** Another class's, the label being at `label` degrees. */
const other = (name, margin, label, options) => ({
  name,
  margin,
  options,
  of: (angle) => logits(margin, [label, angle], options)[1],
});

const fixed = (numClasses) => Math.SQRT2 * Math.log(numClasses - 1);
const binary = (method) => {
  const margin = presetOf(method, { bias: -10 });
  const options = { state: { bias: -10 } };
  return [target('target', margin, options), other('other classes', margin, 60, options)];
};

/** What is drawn of each method, as published but for what a curve's name says. */
const curves = {
  softmax: () => [target('cos θ', presetOf('softmax'))],
  cosface: () => [target('m 0.35', presetOf('cosface'))],
  arcface: () => [
    target("m 0.5, overflow 'hard'", arcface()),
    target("'none'", arcface({ overflow: 'none' })),
    target("'easy'", arcface({ overflow: 'easy' })),
  ],
  combined: () => [
    target('m₁ 1, m₂ 0.3, m₃ 0.2', combined()),
    target('m₁ 0.9, m₂ 0.4, m₃ 0.15', combined({ m1: 0.9, m2: 0.4, m3: 0.15 })),
  ],
  asoftmax: () =>
    [5, 20, 1000].map((lambda) => target(`m 4, λ ${lambda}, ‖x‖ 20`, asoftmax(), { norm: 20, state: { lambda } })),
  sphereface: () => [target('m 1.7', sphereface()), target('m 3', sphereface({ margin: 3 }))],
  adaptiveface: () => [0.1, 0.35, 0.6].map((own) => target(`m_y ${own}`, presetOf('adaptiveface'), { own })),
  adacos: () =>
    [1000, 85_742].map((C) =>
      target(`C ${C.toLocaleString('en')}, s ${fixed(C).toFixed(1)}`, presetOf('adacos', { scale: adacosScale() }), {
        state: { scale: fixed(C) },
      }),
    ),
  mvsoftmax: () => [
    target('target', mvsoftmax()),
    other('other class, target at 50°', mvsoftmax(), 50),
    other("the same, 'fixed'", mvsoftmax({ hard: 'fixed' }), 50),
  ],
  curricularface: () => [
    target('target', curricularface()),
    ...[0, 0.3, 0.6].map((t) => other(`other class, t ${t}, target at 50°`, curricularface(), 50, { state: { t } })),
  ],
  subcenter: () => [target('of the nearest center', presetOf('subcenter'))],
  magface: () =>
    [10, 60, 110].map((norm) => target(`‖x‖ ${norm}`, presetOf('magface', { overflow: 'hard' }), { norm })),
  elasticface: () => [
    ...[0.4, 0.5, 0.6].map((own) => target(`drawn m ${own}`, elasticface(), { own })),
    target('Cos, m 0.35', elasticface({ variant: 'am' }), { own: 0.35 }),
  ],
  adaface: () =>
    [
      [-1, 1],
      [0, 30],
      [1, 99],
    ].map(([q, norm]) =>
      target(`q ${q}`.replace('-', '−'), presetOf('adaface'), { norm, state: { normMean: 30, normStd: 1 } }),
    ),
  sphereface2: () => binary('sphereface2'),
  uniface: () => binary('uniface'),
};

const [width, height, left, top, right, bottom] = [420, 300, 52, 66, 14, 40];
const inner = { width: width - left - right, height: height - top - bottom };

/** Round steps so that at most seven lines are drawn. */
function ticks(low, high) {
  const raw = (high - low) / 6;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].map((factor) => factor * power).find((each) => each >= raw);
  const first = Math.ceil(low / step - 1e-9);
  return Array.from({ length: Math.floor(high / step + 1e-9) - first + 1 }, (_, i) => (first + i) * step);
}

const number = (value) => String(Number(value.toFixed(2))).replace('-', '−');

function panel(title, lines, offset, unit) {
  const values = lines.flatMap(({ points }) => points);
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const pad = (high - low) * 0.04;
  const x = (angle) => offset + left + (angle / 180) * inner.width;
  const y = (value) => top + ((high + pad - value) / (high - low + 2 * pad)) * inner.height;
  const grid = [
    ...ticks(low - pad, high + pad).map(
      (value) =>
        `<path class="grid${Math.abs(value) < 1e-9 ? ' zero' : ''}" d="M${x(0)} ${y(value).toFixed(1)}H${x(180)}"/><text class="end" x="${x(0) - 6}" y="${(y(value) + 4).toFixed(1)}">${number(value)}</text>`,
    ),
    ...[0, 30, 60, 90, 120, 150, 180].map(
      (angle) =>
        `<path class="grid" d="M${x(angle).toFixed(1)} ${top}V${top + inner.height}"/><text class="mid" x="${x(angle).toFixed(1)}" y="${top + inner.height + 16}">${angle}°</text>`,
    ),
  ];
  // The first on top.
  const paths = [...lines].reverse().map(({ style, points }) => {
    // A jump is a gap: no slope here is as steep as a tenth of φ's scale in a degree.
    const jumps = (angle) => Math.abs(points[angle] - points[angle - 1]) > 0.1 * unit;
    const path = points.map(
      (value, angle) => `${angle === 0 || jumps(angle) ? 'M' : 'L'}${x(angle).toFixed(1)} ${y(value).toFixed(1)}`,
    );
    return `<path class="${style}" d="${path.join('')}"/>`;
  });
  return `<text class="title" x="${offset + left}" y="20">${title}</text>${grid.join('')}${paths.join('')}<text class="mid" x="${x(90)}" y="${height - 6}">θ</text>`;
}

/** Names with a piece of their lines, in rows above the panels. */
function legend(lines) {
  let [x, y] = [left, 38];
  return lines
    .map(({ name, style }) => {
      const wide = 34 + name.length * 6.6;
      if (x + wide > 2 * width - right) [x, y] = [left, y + 17];
      const entry = `<path class="${style}" d="M${x.toFixed(0)} ${y}h20"/><text x="${(x + 26).toFixed(0)}" y="${y + 4}">${name}</text>`;
      x += wide + 12;
      return entry;
    })
    .join('');
}

const css = `text{font:12px system-ui,sans-serif;fill:#1f2328}.title{font-weight:600}.mid{text-anchor:middle}.end{text-anchor:end}path{fill:none}.page{fill:#fff;stroke:#d1d9e0}.grid{stroke:#e4e8ec}.zero{stroke:#9aa4ae}.plain,.c0,.c1,.c2,.c3{stroke-width:2}.plain{stroke:#8b949e;stroke-dasharray:5 4}.c0{stroke:#0969da}.c1{stroke:#bc4c00}.c2{stroke:#1a7f37}.c3{stroke:#8250df}@media (prefers-color-scheme:dark){text{fill:#e6edf3}.page{fill:#0d1117;stroke:#30363d}.grid{stroke:#21262d}.zero{stroke:#59636e}.c0{stroke:#58a6ff}.c1{stroke:#f0883e}.c2{stroke:#3fb950}.c3{stroke:#bc8cff}}`;

/** What a picture of today says of itself: the defaults, and what is drawn. */
export const aboutMethod = (method) =>
  `${method}: ${JSON.stringify(margins[method].params)}; ${curves[method]()
    .map(({ name }) => name)
    .join('; ')}`.replace(/</g, '&lt;');

/** A method's picture. */
export function plotOf(method) {
  const drawn = curves[method]();
  const rows = drawn.map(({ name, margin, options, of }, i) => {
    const { s, bias } = parts(margin, options);
    const points = degrees.map(of);
    return { name, style: `c${i}`, logits: points, phis: points.map((z) => (z - bias) / s) };
  });
  const { s, bias } = parts(drawn[0].margin, drawn[0].options);
  const cosines = degrees.map((angle) => at(angle)[0]);
  const plain = { name: 'plain cosine', style: 'plain', phis: cosines, logits: cosines.map((c) => s * c + bias) };
  const all = method === 'softmax' ? rows : [plain, ...rows];
  const of = (key) => all.map(({ style, [key]: points }) => ({ style, points }));
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${2 * width} ${height}" width="${2 * width}" height="${height}" role="img"><desc>${aboutMethod(method)}</desc><style>${css}</style><rect class="page" x="0.5" y="0.5" width="${2 * width - 1}" height="${height - 1}" rx="6"/>${panel('φ', of('phis'), 0, 1)}${panel(bias ? 'logit s·φ + b' : 'logit s·φ', of('logits'), width, s)}${legend(all)}</svg>\n`;
}

export const aboutOf = (svg) => /<desc>(.*?)<\/desc>/.exec(svg)?.[1];
export const methods = Object.keys(curves);
