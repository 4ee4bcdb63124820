/**
 * Partial FC: shards of the classes, of which each samples some.  A sum over shards is a sum over the classes that they
 * took together, so one head over the gathered rows is what all ranks compute.
 */
import { backward } from '../../autograd.js';
import { sampledClasses, shardOf } from '../../heads/index.js';
import { marginLogits, marginSoftmax } from '../../ops/index.js';
import { parameter, tensor, tidy } from '../../tensor.js';
import { namedMargin } from './conventions.js';
import type { GoldenCase, GoldenFile, Precision } from './goldenFile.js';
import { type Measurements, relative, rowRelative, worst, worstRelative } from './measure.js';
import { lossCeiling } from './trajectory.js';

export function partialFcCases(file: GoldenFile): GoldenCase[] {
  namedMargin(String(file.hp.kind), file);
  const { name, family, source } = file;
  const measure = (precision: Precision, device: string) => measurePartialFc(file, precision, device);
  return [{ name, family, source, precisions: ['float64', 'float32'], measure }];
}

/** The classes of every rank, from its draws. */
function classesOf(file: GoldenFile): Int32Array[] {
  const [world, rate, C] = [file.number('world'), file.number('sample_rate'), file.shape('W')[0]];
  const labels = file.integers('labels');
  return Array.from({ length: world }, (_, rank) => {
    const { start, size } = shardOf(C, world, rank);
    const own = rate < 1 ? file.values(`rand.rank${rank}`) : new Float64Array(size);
    const local = labels.map((label) => label - start).filter((label) => label >= 0 && label < size);
    return sampledClasses(own, local, rate < 1 ? Math.floor(rate * size) : size).map((label) => label + start);
  });
}

function measurePartialFc(file: GoldenFile, precision: Precision, device: string): Measurements {
  const Typed = precision === 'float32' ? Float32Array : Float64Array;
  const [N, D] = file.shape('X');
  const [X, W, labels] = [file.values('X'), file.values('W'), file.integers('labels')];
  const ranks = classesOf(file);
  const classes = ranks.flatMap((own) => [...own]);
  const position = new Map(classes.map((label, at) => [label, at]));
  const rows = classes.flatMap((label) => [...W.subarray(label * D, (label + 1) * D)]);
  const targets = labels.map((label) => position.get(label) as number);
  const margin = namedMargin(String(file.hp.kind), file);
  return tidy(() => {
    const x = parameter(tensor(Typed.from(X), [N, D], device));
    const w = parameter(tensor(Typed.from(rows), [classes.length, D], device));
    try {
      const { loss, rowLoss } = marginSoftmax(x, w, targets, margin);
      backward(loss);
      const dW = new Float64Array(W.length);
      const gradient = w.grad?.toArray() ?? [];
      classes.forEach((label, at) => {
        for (let d = 0; d < D; d++) dW[label * D + d] = gradient[at * D + d];
      });
      const rowLosses = Array.from(rowLoss.toArray());
      const capped = rowLosses.reduce((sum, row) => sum + Math.min(row, lossCeiling), 0) / N;
      const logits = marginLogits(x, w, targets, margin).toArray();
      const exact = precision === 'float64';
      const errors: Record<string, [errors: number[], allowed: number]> = {
        shards_abs: [[shardError(file, ranks.length)], 0],
        classes_abs: [indexErrors(file, ranks), 0],
        logits_abs: [logitErrors(file, ranks, logits, classes.length), exact ? 1e-9 : 2e-5],
        ce_rel: [[relative(capped, file.value('loss'))], exact ? 1e-9 : 1e-6],
        dX_rel: [[rowRelative(x.grad?.toArray() ?? [], file.values('dX'), X, D)], exact ? 1e-7 : 5e-6],
        dW_rel: [[worstRelative(dW, file.values('dW'))], exact ? 1e-7 : 5e-6],
      };
      return Object.fromEntries(
        Object.entries(errors).flatMap(([key, [each, allowed]]) =>
          each.length > 0 ? [[key, { error: Math.max(...each), allowed }]] : [],
        ),
      );
    } finally {
      for (const made of [x, w]) {
        made.grad?.dispose();
        made.dispose();
      }
    }
  });
}

function shardError(file: GoldenFile, world: number): number {
  const shards = Array.from({ length: world }, (_, rank) => shardOf(file.shape('W')[0], world, rank));
  const starts = shards.map(({ start }) => start);
  const sizes = shards.map(({ size }) => size);
  return Math.max(worst(starts, file.values('shard_start')), worst(sizes, file.values('shard_size')));
}

/** Of the classes within their shard, where ranks sample. */
function indexErrors(file: GoldenFile, ranks: readonly Int32Array[]): number[] {
  return ranks.flatMap((own, rank) => {
    const theirs = file.maybe(`index.rank${rank}`);
    const { start } = shardOf(file.shape('W')[0], ranks.length, rank);
    return theirs
      ? [
          worst(
            own.map((label) => label - start),
            theirs,
          ),
        ]
      : [];
  });
}

/** Of every rank's own columns, where the file has them. */
function logitErrors(
  file: GoldenFile,
  ranks: readonly Int32Array[],
  logits: ArrayLike<number>,
  columns: number,
): number[] {
  let first = 0;
  return ranks.flatMap((own, rank) => {
    const [from, to] = [first, first + own.length];
    first = to;
    const theirs = file.maybe(`logits.rank${rank}`);
    const ours = Float64Array.from(logits).filter((_, i) => i % columns >= from && i % columns < to);
    return theirs ? [worst(ours, theirs)] : [];
  });
}
