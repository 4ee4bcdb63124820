/** Partial FC: which classes of a shard take part in a step (An et al. 2022, arXiv:2203.15565). */
import { ArgumentRangeError, checkLists, describe, expected } from '../errors.js';

/** A rank's part of the classes, the first C mod world ranks having one more. */
export function shardOf(numClasses: number, world: number, rank: number): { start: number; size: number } {
  for (const [name, count] of Object.entries({ numClasses, world }))
    expected(Number.isSafeInteger(count) && count >= 1, 'shardOf', `${name}, an integer of at least 1`, count);
  expected(Number.isInteger(rank) && rank >= 0 && rank < world, 'shardOf', `a rank in [0, ${world})`, rank);
  const [each, rest] = [Math.floor(numClasses / world), numClasses % world];
  return { start: each * rank + Math.min(rank, rest), size: each + (rank < rest ? 1 : 0) };
}

/**
 * The classes that a shard samples, ascending: the ones of the batch, and of the others those with the largest draws,
 * `count` in all.  More classes of the batch than `count` are all taken, and no other.  Of equal draws the lower class
 * is taken.  As insightface's PartialFC_V2 chooses, given its draws.
 *
 * @example
 * sampledClasses([0.9, 0.1, 0.5, 0.7], [1], 2); // Int32Array [0, 1]
 */
export function sampledClasses(draws: ArrayLike<number>, classesOfBatch: ArrayLike<number>, count: number): Int32Array {
  checkLists('sampledClasses', { draws, classesOfBatch });
  const size = draws.length;
  for (let j = 0; j < size; j++) {
    if (typeof draws[j] === 'number' && !Number.isNaN(draws[j])) continue;
    const what = `sampledClasses: expected draws that are numbers, got ${describe(draws[j])} at class ${j}`;
    throw new ArgumentRangeError(what, { code: 'ERR_FM_RANGE' });
  }
  expected(
    Number.isInteger(count) && count >= 0 && count <= size,
    'sampledClasses',
    `a count in [0, ${size} classes]`,
    count,
  );
  const taken = new Uint8Array(size);
  for (const label of Array.from(classesOfBatch)) {
    expected(Number.isInteger(label) && label >= 0 && label < size, 'sampledClasses', `classes in [0, ${size})`, label);
    taken[label] = 1;
  }
  let open = count;
  for (const of of taken) open -= of;
  if (open > 0) {
    const others = Float64Array.from(draws).filter((_, j) => !taken[j]);
    others.sort();
    const least = others[others.length - open];
    let equal = open; // of those whose draw is `least`, how many are taken
    for (const draw of others) if (draw > least) equal--;
    for (let j = 0; j < size; j++) {
      if (taken[j]) continue;
      if (draws[j] > least || (draws[j] === least && equal-- > 0)) taken[j] = 1;
    }
  }
  return Int32Array.from(taken.keys()).filter((j) => taken[j]);
}
