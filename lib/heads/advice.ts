/** What a user would want to know about a margin's numbers: from the numbers alone, and from the first steps. */
import { fixedAdacosScale, type Margin, type MarginFields, negativesOf } from '../margins/index.js';
import { isBinary } from '../margins/native.js';

/** The classes of a head, and how many of them take part in a step. */
interface Classes {
  readonly numClasses: number;
  readonly sampleRate: number;
  readonly count: number;
}

/** Sentences about a margin over so many classes; none where everything is as published. */
export function adviceOn(margin: Margin, { numClasses, sampleRate, count }: Classes, scale: number): string[] {
  const said: (string | false)[] = [];
  const fields = margin as Partial<MarginFields>;
  const binary = isBinary(margin);
  const fixed = typeof margin.scale === 'number';
  const least = fixedAdacosScale(count);
  const classes =
    count === numClasses
      ? `${count} classes`
      : `the ${count} of ${numClasses} classes that take part in a step (sampleRate ${sampleRate})`;
  if (!binary && fixed && count > 2) {
    said.push(
      scale < least &&
        `scale ${scale} is small for ${classes}: below √2·ln(C − 1) = ${least.toFixed(1)} a softmax over them cannot become sure of its target (AdaCos, arXiv:1905.00292)`,
      count < 1000 &&
        scale >= 64 &&
        `scale ${scale} is large for ${classes}: it is published for tens of thousands; adacosScale() finds one that fits, starting from ${fixedAdacosScale(numClasses).toFixed(0)}`,
    );
  }
  if (margin.method === 'magface') {
    const { lowerNorm: low, upperNorm: high, normPenalty } = margin;
    const k = (margin.upperMargin - margin.lowerMargin) / (high - low);
    const bound = (scale * k * high ** 2 * low ** 2) / (high ** 2 - low ** 2);
    said.push(
      normPenalty < bound &&
        `normPenalty ${normPenalty} is below MagFace's own bound s·k·u²·l²/(u² − l²) = ${bound.toFixed(2)}: the norm has no single best value (arXiv:2103.06627, section 3.2)`,
    );
  }
  const negatives = negativesOf(margin);
  if (negatives.rule === 'mv' && negatives.t > 0.4) {
    said.push(`t ${negatives.t} of the hard negatives: above 0.4 MV-Softmax is known to diverge (arXiv:1912.00833)`);
  }
  if (negatives.rule === 'filter' && negatives.above < 0.2) {
    said.push(`negatives above a cosine of ${negatives.above} are left out: published values are 0.3 and more`);
  }
  if (!binary && margin.method !== 'asoftmax' && margin.method !== 'sphereface' && (fields.margin ?? 0) > 0.8) {
    said.push(`margin ${fields.margin} is far above what is published (0.2 … 0.5); training may not start`);
  }
  if (fixed && scale > 128) said.push(`scale ${scale} is far above what is published (up to 64)`);
  return said.filter((sentence) => sentence !== false);
}

/** Looks at the first batches, and says what is amiss with them. */
export class FirstSteps {
  static readonly count = 20;
  #rows = 0;
  #pastPi = 0;
  #outside = 0;

  /** Cosines of the targets and norms of the features of a batch's labelled rows. */
  add(margin: Margin, cosines: readonly number[], norms: readonly number[]): void {
    const { margin: m = 0 } = margin as Partial<MarginFields>;
    this.#rows += cosines.length;
    this.#pastPi += cosines.filter((cos) => Math.acos(Math.max(-1, Math.min(1, cos))) + m > Math.PI).length;
    if (margin.method === 'magface') {
      this.#outside += norms.filter((norm) => norm < margin.lowerNorm || norm > margin.upperNorm).length;
    }
  }

  advice(margin: Margin): string[] {
    if (this.#rows === 0) return [];
    const share = (n: number) => `${((100 * n) / this.#rows).toFixed(0)} %`;
    const said: (string | false)[] = [
      this.#pastPi > 0.05 * this.#rows &&
        `${share(this.#pastPi)} of the targets of the first ${FirstSteps.count} steps had θ + m above π, where a margin loses its meaning: lower the margin, or see that labels and images belong together`,
    ];
    if (margin.method === 'magface') {
      said.push(
        this.#outside > 0.5 * this.#rows &&
          `${share(this.#outside)} of the feature norms of the first ${FirstSteps.count} steps were outside MagFace's window [${margin.lowerNorm}, ${margin.upperNorm}], where neither margin nor regulariser has a gradient: move lowerNorm and upperNorm to where the norms are`,
      );
    }
    return said.filter((sentence) => sentence !== false);
  }
}
