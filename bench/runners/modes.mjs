// Other shapes and options of the head against the ordinary one, a multiply-add each: time ÷ (N·C·K·D).
import { alternate } from '../alternate.mjs';
import { missing, peer } from '../peers.mjs';

const small = { N: 64, D: 512, C: 10_000 };
const large = { N: 128, D: 512, C: 100_000 };
const comparisons = [
  { mode: 'odd sizes', base: small, other: { N: 61, D: 509, C: 9973 }, rounds: 15 },
  { mode: 'D 128', base: large, other: { ...large, D: 128 } },
  { mode: 'D 256', base: large, other: { ...large, D: 256 } },
  { mode: 'D 1024', base: large, other: { ...large, D: 1024 } },
  { mode: '3 sub-centers', base: large, other: { ...large, C: 33_333, options: { subCenters: 3 } } },
  { mode: 'bfloat16', base: large, other: { ...large, options: { precision: 'bfloat16' } } },
  { mode: 'fast', base: large, other: { ...large, options: { memory: 'fast' } } },
  { mode: 'bfloat16, fast', base: large, other: { ...large, options: { precision: 'bfloat16', memory: 'fast' } } },
];
const tiny = ({ N, D, C, options }) => ({ N: N >> 3, D: D >> 4, C: Math.round(C / 50), options });

const work = ({ N, D, C, options }) => N * D * C * (options?.subCenters ?? 1);

export async function run({ record, say, smoke, budget, only }) {
  const threads = only.threads ?? 1;
  const gemm3 = !missing('gemm3');
  const chosen = comparisons.filter(
    ({ mode }) => !smoke || ['odd sizes', '3 sub-centers', 'bfloat16, fast'].includes(mode),
  );
  for (const { mode, base, other, rounds = 9 } of chosen) {
    const [from, to] = smoke ? [tiny(base), tiny(other)] : [base, other];
    const peers = [
      peer('ours', { ...from, threads }),
      { ...peer('ours', { ...to, threads }), name: mode },
      ...(gemm3 && !to.options?.subCenters ? [peer('gemm3', { ...to, threads })] : []),
    ];
    const { rows, skipped } = await alternate(peers, { rounds: smoke ? 2 : rounds, budget });
    for (const { name, why } of skipped) say(`modes, ${name}: ${why}`);
    const row = rows.find((each) => each.peer === mode);
    if (!row) continue;
    const { peer: _, perOurs, ...rest } = row;
    const perWork = (perOurs * work(from)) / work(to);
    record({ bench: 'modes', mode, ...to, base: from, threads, ...rest, perOurs, perWork });
  }
}
