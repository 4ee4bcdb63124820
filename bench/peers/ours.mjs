// flashmargin as its users call it: MarginHead.step.   node --expose-gc ours.mjs N D C threads [MarginHead's options]
import { MarginHead, setNumThreads } from 'flashmargin';
import { features, firstStep, labels, weights } from '../data.mjs';
import { serve } from './serve.mjs';

const [N, D, C, threads] = process.argv.slice(2, 6).map(Number);
const options = JSON.parse(process.argv[6] ?? '{}');
setNumThreads(threads);
const head = new MarginHead({ numClasses: C, embeddingSize: D, ...options });
const rows = C * (options.subCenters ?? 1);
if (head.weight.size !== rows * D) throw new Error(`MarginHead has no option subCenters`);
for (const name of ['precision', 'memory'])
  if (name in options && head[name] !== options[name]) throw new Error(`MarginHead has no option ${name}`);
head.weight.set(weights(head.weight.size));
const x = features(N, D);
const y = labels(N, C);

await serve({
  step: (lr) => head.step(x, y, { lr }),
  async check() {
    const { loss, gradEmbeddings } = await head.step(x, y, { lr: 1e-3 });
    if (head.weight.size !== C * D) return { loss };
    const center = head.weight.toArray().subarray(y[0] * D, y[0] * D + 16);
    return firstStep(loss, gradEmbeddings, center, y[0], D);
  },
});
