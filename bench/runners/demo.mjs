// What the demo's runs found, copied into the results.
import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';

export function run({ root, record, say }) {
  for (const run of ['runs/demo', 'runs/softmax']) {
    const file = path.join(root, run, 'summary.json');
    if (!existsSync(file)) {
      say(`demo: there is no ${run}/summary.json: npm run demo, npm run demo:softmax`);
      continue;
    }
    const summary = JSON.parse(readFileSync(file, 'utf8'));
    const { title, seconds, evaluationSeconds, imagesPerSecond, headShare, tiers, pairs, baselines } = summary;
    record({
      bench: 'demo',
      run,
      title,
      seconds,
      evaluationSeconds,
      imagesPerSecond,
      headShare,
      convolutions: summary.environment.convolutions,
      tiers,
      pairs,
      pixels: baselines.find(({ name }) => name === 'raw pixels'),
    });
  }
}
