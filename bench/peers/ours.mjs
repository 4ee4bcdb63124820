// flashmargin as its users call it: MarginHead.step.   node --expose-gc ours.mjs N D C threads [options: subCenters, or MarginHead's]
import { arcface, MarginHead, setNumThreads } from 'flashmargin';
import { features, firstStep, labels, weights } from '../data.mjs';
import { serve } from './serve.mjs';

const [N, D, C, threads] = process.argv.slice(2, 6).map(Number);
const { subCenters = 1, ...options } = JSON.parse(process.argv[6] ?? '{}');
setNumThreads(threads);
const margin = arcface({ subCenters });
const head = new MarginHead({ numClasses: C, embeddingSize: D, margin, onAdvice: () => {}, ...options });
for (const [name, value] of Object.entries(options))
  if (head[name] !== value) throw new Error(`MarginHead has no option ${name}`);
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
