/** One line that rewrites itself on a terminal, plain lines elsewhere; always on stderr. */
import type { StepMetrics } from '../train/index.js';

export class Progress {
  readonly #out: NodeJS.WriteStream;
  readonly #everySeconds: number;
  #lineOpen = false;
  #last = Number.NEGATIVE_INFINITY;

  constructor(out: NodeJS.WriteStream = process.stderr, everySeconds = 5) {
    this.#out = out;
    this.#everySeconds = everySeconds;
  }

  /** Shows a step; where lines are not rewritten, at most one in a few seconds, and the last. */
  step(metrics: StepMetrics): void {
    const line = progressLine(metrics);
    if (this.#out.isTTY) {
      this.#out.write(`\r\x1b[2K${line.slice(0, Math.max(20, (this.#out.columns ?? 120) - 1))}`);
      this.#lineOpen = true;
      return;
    }
    const now = performance.now() / 1000;
    if (now - this.#last < this.#everySeconds && metrics.step < metrics.totalSteps) return;
    this.#last = now;
    this.#out.write(`${line}\n`);
  }

  /** A message of its own line. */
  note(message: string): void {
    this.end();
    this.#out.write(`${message}\n`);
  }

  /** Leaves the line as it is. */
  end(): void {
    if (this.#lineOpen) this.#out.write('\n');
    this.#lineOpen = false;
  }
}

export function progressLine(m: StepMetrics): string {
  const eta = ((m.totalSteps - m.step) * m.seconds) / m.step;
  const digits = String(m.totalSteps).length;
  return [
    `step ${String(m.step).padStart(digits)}/${m.totalSteps}`,
    `epoch ${m.epoch}`,
    `loss ${m.loss.toFixed(3)}`,
    `acc ${(100 * m.accuracy).toFixed(1)}%`,
    `lr ${m.lr.toPrecision(3)}`,
    `${m.imagesPerSecond.toFixed(0)} images/s`,
    `head ${(100 * m.headShare).toFixed(0)}%`,
    `ETA ${duration(eta)}`,
  ].join('  ');
}

/** 3723 → '1h02m03s'. */
export function duration(seconds: number): string {
  const s = Math.round(seconds);
  const [h, m] = [Math.floor(s / 3600), Math.floor(s / 60) % 60];
  const two = (n: number) => String(n).padStart(2, '0');
  return h > 0 ? `${h}h${two(m)}m${two(s % 60)}s` : m > 0 ? `${m}m${two(s % 60)}s` : `${s}s`;
}
