// Compares two copies of the set, image by image:  node compare.mjs FOLDER_A FOLDER_B
import { join } from 'node:path';
import { createJiti } from 'jiti';

const library = process.env.FLASHMARGIN_LIB ?? new URL('../../../lib/', import.meta.url).pathname;
const { openDataset } = await createJiti(import.meta.url).import(join(library, 'data/dataset.ts'));

const [a, b] = process.argv.slice(2, 4);
for (const part of ['train', 'test']) {
  const [first, second] = [a, b].map((folder) => {
    const set = openDataset(join(folder, `${part}.rec`), { access: 'read' });
    const [characters, families, tiers] = ['codepoint', 'family', 'tier'].map((name) => set.column(name));
    const at = new Map(characters.map((character, i) => [`${character} ${families[i]} ${tiers[i]}`, i]));
    return { set, at };
  });
  let equal = 0;
  let different = 0;
  let total = 0;
  for (const [name, i] of first.at) {
    const j = second.at.get(name);
    if (j === undefined) continue;
    const [x, y] = [first.set.image(i), second.set.image(j)];
    const difference = x.reduce((sum, value, p) => sum + Math.abs(value - y[p]), 0) / x.length;
    if (difference === 0) equal++;
    else different++;
    total += difference;
  }
  const common = equal + different;
  console.log(
    `${part}: ${first.set.size} and ${second.set.size} images, ${common} in both; ${equal} equal pixel for pixel; mean absolute difference of the others ${(total / Math.max(1, different)).toFixed(2)} of 255`,
  );
}
