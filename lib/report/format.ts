/** What stands where a number is missing. */
export const MISSING = '–';

export const isNumber = (value: unknown): value is number => typeof value === 'number' && Number.isFinite(value);

/** 0.92834 → '92.83 %' */
export const percent = (share: number, digits = 2): string =>
  isNumber(share) ? `${(100 * share).toFixed(digits)}\u202f%` : MISSING;

/** 82916 → '82,916' */
export const count = (value: number): string => (isNumber(value) ? Math.round(value).toLocaleString('en-US') : MISSING);

export const decimal = (value: number, digits = 3): string =>
  isNumber(value) ? value.toFixed(digits).replace('-', '\u2212') : MISSING;

/** 1234567 → '1.23 M' */
export function compact(value: number): string {
  if (!isNumber(value) || Math.abs(value) < 1e4) return count(value);
  const [unit, name] = Math.abs(value) >= 1e9 ? [1e9, 'G'] : Math.abs(value) >= 1e6 ? [1e6, 'M'] : [1e3, 'k'];
  return `${Number((value / unit).toPrecision(3))}\u202f${name}`;
}

/** 3725 → '1 h 02 min' */
export function duration(seconds: number): string {
  if (!isNumber(seconds)) return MISSING;
  if (seconds < 60) return `${seconds.toFixed(1)}\u202fs`;
  const two = (value: number) => String(value).padStart(2, '0');
  const whole = Math.round(seconds);
  const [hours, minutes] = [Math.floor(whole / 3600), Math.floor((whole % 3600) / 60)];
  return hours > 0 ? `${hours}\u202fh ${two(minutes)}\u202fmin` : `${minutes}\u202fmin ${two(whole % 60)}\u202fs`;
}

const SUPERSCRIPTS = '⁰¹²³⁴⁵⁶⁷⁸⁹';

/** 0.001 → '10⁻³', 0.002 → '2·10⁻³', 0.5 → '0.5' */
export function rate(far: number): string {
  if (!isNumber(far)) return MISSING;
  if (far <= 0 || far >= 0.1) return String(far);
  const [mantissa, exponent] = far.toExponential(2).split('e-');
  const power = `10⁻${Array.from(exponent, (digit) => SUPERSCRIPTS[Number(digit)]).join('')}`;
  return Number(mantissa) === 1 ? power : `${Number(mantissa)}·${power}`;
}

/** Whether two false accept rates are one, read from different files. */
export const sameRate = (a: number, b: number): boolean => Math.abs(a - b) <= 1e-6 * Math.max(Math.abs(a), Math.abs(b));

/** The TAR that a list states for a rate, or NaN. */
export const tarAt = (points: readonly { far: number; tar: number }[], far: number): number =>
  points.find((point) => sameRate(point.far, far))?.tar ?? Number.NaN;

/** The two rates that are quoted everywhere where they exist, else the first two that do. */
export function headlineRates(tiers: readonly { tar: readonly { far: number }[] }[]): number[] {
  const all: number[] = [];
  for (const { far } of tiers.flatMap((tier) => tier.tar)) {
    if (isNumber(far) && !all.some((known) => sameRate(known, far))) all.push(far);
  }
  const usual = all.filter((far) => sameRate(far, 1e-3) || sameRate(far, 1e-4));
  return (usual.length > 0 ? usual : all.slice(0, 2)).sort((a, b) => b - a);
}
