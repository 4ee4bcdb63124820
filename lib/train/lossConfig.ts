/** What a configuration says of GroupFace and of losses other than the margins. */
import { isDeepStrictEqual } from 'node:util';
import { z } from 'zod';
import { wants } from './configProblems.js';
import { headSchema, marginSchema } from './marginConfig.js';

const size = z.number().int().min(1).max(65_536);

/** Every batch has so many images of so many classes. */
export const samplerSchema = z.strictObject({ classes: z.number().int().min(2), images: z.number().int().min(1) });

/** Instance and group representations behind the backbone. */
export const groupFaceSchema = z.strictObject({
  groups: z.number().int().min(1).max(4096).default(4),
  /** The backbone's by default. */
  embeddingSize: size.optional(),
  hidden: size.default(256),
  mode: z.enum(['soft', 'hard']).default('soft'),
  activation: z.enum(['relu', 'prelu']).default('relu'),
  expectation: z.enum(['batch', 'running']).default('batch'),
  momentum: z.number().positive().max(1).default(0.1),
  lossWeight: z.number().min(0).max(1000).default(0.1),
});

const tripletSchema = z.strictObject({
  kind: z.literal('triplet'),
  /** Of squared distance. */
  margin: z.number().min(0).max(4).default(0.3),
  mining: z.enum(['all', 'semi-hard', 'hard']).default('semi-hard'),
  average: z.enum(['triplets', 'active']).default('triplets'),
});
const contrastiveSchema = z.strictObject({
  kind: z.literal('contrastive'),
  /** Of distance. */
  margin: z.number().min(0).max(2).default(1),
  average: z.enum(['pairs', 'separate']).default('pairs'),
});

/** A loss on pairs of the batch, in the place of `margin`. */
export const lossSchema = z.discriminatedUnion('kind', [tripletSchema, contrastiveSchema]);

/** Beside `margin`. */
export const centerLossSchema = z.strictObject({
  weight: z.number().min(0).max(1000).default(0.003),
  alpha: z.number().min(0).max(1).default(0.5),
});

interface Parts {
  readonly data: { readonly sampler?: z.infer<typeof samplerSchema> };
  readonly batchSize: number;
  readonly margin: z.infer<typeof marginSchema>;
  readonly head: z.infer<typeof headSchema>;
  readonly loss?: z.infer<typeof lossSchema>;
  readonly centerLoss?: z.infer<typeof centerLossSchema>;
}

/** What these parts ask of each other. */
export function checkLosses(parts: Parts, context: z.RefinementCtx): void {
  const {
    data: { sampler },
    batchSize,
    loss,
    centerLoss,
  } = parts;
  const problem = (path: string[], message: string) => context.addIssue({ code: 'custom', path, message });
  if (sampler && sampler.classes * sampler.images !== batchSize)
    problem(['batchSize'], wants(`${sampler.classes} × ${sampler.images}, as data.sampler says`, batchSize));
  if (loss && (sampler?.images ?? 1) < 2)
    problem(
      ['data', 'sampler'],
      `${wants('at least 2 images a class', sampler)}: ${loss.kind} compares images of one class`,
    );
  for (const [name, schema] of [
    ['margin', marginSchema],
    ['head', headSchema],
  ] as const)
    if (loss && !isDeepStrictEqual(parts[name], schema.parse({})))
      problem([name], `expected none beside loss.kind ${loss.kind}, which has no classes: remove ${name}, or loss`);
  if (loss && centerLoss)
    problem(
      ['centerLoss'],
      `expected none beside loss.kind ${loss.kind}: it stands beside a margin; remove one of them`,
    );
}

/** The title of a run with a loss on pairs. */
export function lossTitle(loss: z.infer<typeof lossSchema>): string {
  const kind = loss.kind === 'triplet' ? `${loss.mining} triplets` : loss.kind;
  return `${kind} (m ${loss.margin})`;
}
