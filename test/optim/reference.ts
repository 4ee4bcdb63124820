/** torch.optim.AdamW from its formula, in float64: the state of a weight, and a step of it. */
export interface Moments {
  weight: Float64Array;
  expAvg: Float64Array;
  expAvgSq: Float64Array;
}

export function moments(weight: ArrayLike<number>): Moments {
  const n = weight.length;
  return { weight: Float64Array.from(weight), expAvg: new Float64Array(n), expAvgSq: new Float64Array(n) };
}

export function adamwStep(
  { weight, expAvg, expAvgSq }: Moments,
  gradient: ArrayLike<number>,
  step: number,
  {
    lr,
    betas: [b1, b2] = [0.9, 0.999],
    eps = 1e-8,
    weightDecay = 0.01,
  }: { lr: number; betas?: readonly [number, number]; eps?: number; weightDecay?: number },
): void {
  for (const [i, w] of weight.entries()) {
    const g = gradient[i] as number;
    const m = b1 * (expAvg[i] as number) + (1 - b1) * g;
    const v = b2 * (expAvgSq[i] as number) + (1 - b2) * g * g;
    expAvg[i] = m;
    expAvgSq[i] = v;
    weight[i] = w - lr * weightDecay * w - (lr * (m / (1 - b1 ** step))) / (Math.sqrt(v / (1 - b2 ** step)) + eps);
  }
}
