/**
 * Draws the page's chart specs with uPlot. Source text rather than a function's `toString()`: transpilers and coverage
 * tools put calls to helpers into functions, and the page has none of those helpers.
 */
export const chartScript = `(() => {
  'use strict';
  const specs = JSON.parse(document.getElementById('chart-data').textContent);
  const root = document.documentElement;
  const font = '12px system-ui, -apple-system, "Segoe UI", Roboto, sans-serif';
  const gap = '\\u2013';

  const color = (name) => getComputedStyle(root).getPropertyValue(name).trim();
  const digits = (value, most) => value.toLocaleString('en-US', { maximumFractionDigits: most });
  const superscript = (n) => Array.from(String(n), (c) => (c === '-' ? '\\u207b' : '\\u2070\\u00b9\\u00b2\\u00b3\\u2074\\u2075\\u2076\\u2077\\u2078\\u2079'[c])).join('');
  const rate = (value) => {
    if (value >= 0.01) return digits(value, 4);
    const exponent = Math.floor(Math.log10(value) + 1e-9);
    const mantissa = value / 10 ** exponent;
    const power = '10' + superscript(exponent);
    return Math.abs(mantissa - 1) < 5e-3 ? power : digits(mantissa, 2) + '\\u00b7' + power;
  };
  const formats = {
    integer: (value) => digits(value, 0),
    number: (value) => digits(value, Math.abs(value) < 1 ? 4 : Math.abs(value) < 100 ? 3 : 1),
    percent: (value) => digits(value * 100, 2) + ' %',
    cosine: (value) => digits(value, 3),
    lr: (value) => (value !== 0 && Math.abs(value) < 1e-3 ? value.toExponential(2) : digits(value, 5)),
    rate,
  };
  const ticks = {
    integer: (value) => (value >= 1e4 ? digits(value / 1e3, 1) + 'k' : digits(value, 1)),
    number: (value) => digits(value, 4),
    percent: (value) => digits(value * 100, 3) + ' %',
    cosine: (value) => digits(value, 2),
    lr: (value) => (value !== 0 && Math.abs(value) < 1e-3 ? value.toExponential(0) : digits(value, 4)),
    rate: (value) => (Math.abs(Math.log10(value) - Math.round(Math.log10(value))) < 1e-6 ? (value >= 0.1 ? String(+value.toFixed(1)) : '10' + superscript(Math.round(Math.log10(value)))) : ''),
  };

  const nearest = (u, series, at) => {
    const values = u.data[series];
    for (let d = 0; d < values.length; d++) {
      if (values[at - d] != null) return at - d;
      if (values[at + d] != null) return at + d;
    }
    return at;
  };

  const axis = (label, format, extra) => ({
    label, font, labelFont: font, labelGap: 2,
    stroke: color('--muted'),
    grid: { stroke: color('--grid'), width: 1 },
    ticks: { stroke: color('--grid'), width: 1, size: 5 },
    values: (u, splits) => splits.map((value) => (value == null ? '' : ticks[format](value))),
    ...extra,
  });

  const drawMarks = (marks) => (u) => {
    const { ctx, bbox } = u;
    const ratio = devicePixelRatio;
    ctx.save();
    ctx.fillStyle = color('--text');
    ctx.lineJoin = 'round';
    ctx.font = 11 * ratio + 'px system-ui, sans-serif';
    ctx.textBaseline = 'top';
    marks.forEach((mark, i) => {
      const x = Math.round(u.valToPos(mark.x, 'x', true));
      if (x < bbox.left || x > bbox.left + bbox.width) return;
      ctx.setLineDash([4 * ratio, 3 * ratio]);
      ctx.lineWidth = ratio;
      ctx.strokeStyle = color('--text');
      ctx.beginPath();
      ctx.moveTo(x, bbox.top);
      ctx.lineTo(x, bbox.top + bbox.height);
      ctx.stroke();
      const left = x + ctx.measureText(mark.label).width + 8 * ratio > bbox.left + bbox.width;
      ctx.textAlign = left ? 'right' : 'left';
      const at = [mark.label, x + (left ? -4 : 4) * ratio, bbox.top + (2 + 14 * i) * ratio];
      ctx.setLineDash([]);
      ctx.lineWidth = 4 * ratio;
      ctx.strokeStyle = color('--card');
      ctx.strokeText(...at);
      ctx.fillText(...at);
    });
    ctx.restore();
  };

  const seriesOptions = (spec) => (line) => {
    const stroke = color('--c' + (line.color % 6));
    const format = formats[line.format || spec.axes[line.axis || 0].format];
    const raw = line.look === 'raw';
    return {
      label: line.label,
      scale: line.hidden ? 'hidden' : 'y' + (line.axis || 0),
      stroke: line.hidden ? 'transparent' : raw ? stroke + '66' : stroke,
      fill: line.look === 'area' ? stroke + '33' : undefined,
      width: line.hidden ? 0 : raw ? 1 : 1.75,
      dash: spec.scattered ? [[], [9, 4], [3, 3], [9, 3, 2, 3]][line.color % 4] : undefined,
      points: { show: !line.hidden && spec.x.values.length === 1 },
      spanGaps: !!spec.scattered,
      value: (u, value) => (value == null ? gap : format(value)),
    };
  };

  const range = (wanted, percent) => (u, low, high) => {
    if (low == null) [low, high] = [0, 1];
    const room = low === high ? Math.abs(low) / 10 || 1 : 0;
    const [min, max] = uPlot.rangeNum(low - room, high + room, 0.05, true);
    return [wanted?.[0] ?? min, wanted?.[1] ?? (percent ? Math.min(max, 1) : max)];
  };

  const options = (spec, width) => {
    // The lines between powers of ten would run together on a narrow chart.
    const decades = (u, splits) => splits.map((value) => (spec.x.log && width < 500 && ticks.rate(value) === '' ? null : value));
    const scales = {
      x: { time: false, distr: spec.x.log ? 3 : 1, ...(spec.x.range ? { range: () => spec.x.range } : {}) },
      hidden: { auto: false, range: () => [0, 1] },
    };
    spec.axes.forEach((y, i) => { scales['y' + i] = { range: range(y.range, y.format === 'percent') }; });
    return {
      width,
      height: spec.height,
      scales,
      axes: [
        axis(spec.x.label, spec.x.format, { size: 28, labelSize: 18, space: width < 500 ? 60 : 70, grid: { stroke: color('--grid'), width: 1, filter: decades } }),
        ...spec.axes.map((y, i) => axis(y.label, y.format, {
          scale: 'y' + i, size: 54, labelSize: 18, side: i === 0 ? 3 : 1,
          grid: { show: i === 0, stroke: color('--grid'), width: 1 },
        })),
      ],
      series: [
        { label: spec.x.format === 'rate' ? 'FAR' : spec.x.label, value: (u, value) => (value == null ? gap : formats[spec.x.format](value)) },
        ...spec.series.map(seriesOptions(spec)),
      ],
      cursor: spec.scattered ? { dataIdx: nearest } : {},
      hooks: spec.marks ? { draw: [drawMarks(spec.marks)] } : {},
    };
  };

  const places = specs.map((spec) => ({ spec, place: document.getElementById('chart-' + spec.id), chart: null }));
  const draw = () => places.forEach((entry) => {
    entry.chart?.destroy();
    const { spec, place } = entry;
    const data = [spec.x.values, ...spec.series.map((line) => line.values)];
    entry.chart = new uPlot(options(spec, place.clientWidth), data, place);
  });
  draw();

  new ResizeObserver(() => places.forEach(({ spec, place, chart }) => {
    if (place.clientWidth !== chart.width) chart.setSize({ width: place.clientWidth, height: spec.height });
  })).observe(document.querySelector('main'));

  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', draw);
  // Paper is white: charts, drawn in the page's colours, are drawn again in the light ones.
  addEventListener('beforeprint', () => { root.classList.add('light'); draw(); });
  addEventListener('afterprint', () => { root.classList.remove('light'); draw(); });
})();`;
