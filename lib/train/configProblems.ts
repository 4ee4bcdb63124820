/** What is wrong with a configuration, in the form of every other error: what was expected, what came, and where. */
import type { z } from 'zod';
import { describe } from '../errors.js';

type Issue = z.core.$ZodIssue;
type Raw<Code extends Issue['code']> = z.core.$ZodRawIssue<Extract<Issue, { code: Code }>>;

const kinds: Readonly<Record<string, string>> = {
  object: 'an object',
  array: 'a list',
  string: 'a text',
  number: 'a finite number',
  int: 'an integer',
  boolean: 'true or false',
};
const units: Readonly<Record<string, string>> = { array: ' values', string: ' characters' };

/** A problem's line, without its path. */
export const wants = (wanted: string, got: unknown): string =>
  `expected ${wanted}, got ${got === undefined ? 'nothing' : describe(got)}`;

/** Of a schema that says itself what it wants: the parameter of zod for it. */
export const expecting = (wanted: string) => ({
  error: ({ input }: { readonly input?: unknown }) => wants(wanted, input),
});

const oneOf = (names: readonly unknown[], got: unknown): string =>
  wants(`one of ${names.join(', ')}`, got) + (typeof got === 'string' ? nearest(got, names.map(String)) : '');

/** Of the checks and schemas that do not say it themselves. */
const words: { readonly [Code in Issue['code']]?: (issue: Raw<Code>) => string } = {
  invalid_type: ({ expected, input }) => wants(kinds[expected] ?? expected, input),
  invalid_value: ({ values, input }) => oneOf(values, input),
  invalid_union: ({ options, discriminator, input }) =>
    oneOf(options as readonly unknown[], (input as Record<string, unknown>)[discriminator as string]),
  too_small: ({ minimum, inclusive, origin, input }) =>
    wants(`${inclusive ? 'at least' : 'more than'} ${minimum}${units[origin] ?? ''}`, input),
  too_big: ({ maximum, inclusive, origin, input }) =>
    wants(`${inclusive ? 'at most' : 'less than'} ${maximum}${units[origin] ?? ''}`, input),
  // A line a key.
  unrecognized_keys: ({ keys, inst }) => {
    const known = Object.keys((inst as z.ZodObject).shape);
    return keys.map((key) => `unknown key${nearest(key, known) || `; known here: ${known.join(', ')}`}`).join('\n');
  },
};

/** zod's error map of a configuration. */
export const inOurWords = (issue: z.core.$ZodRawIssue): string | undefined =>
  (words[issue.code] as ((issue: z.core.$ZodRawIssue) => string) | undefined)?.(issue);

/** A line for each problem, with its path. */
export function problems(issues: readonly Issue[]): string[] {
  return issues.flatMap((issue) =>
    issue.message.split('\n').map((line, i) => {
      const key = issue.code === 'unrecognized_keys' ? [issue.keys[i]] : [];
      return `${[...issue.path, ...key].map(String).join('.') || '(top)'}: ${line}`;
    }),
  );
}

/** The name that was probably meant. */
function nearest(key: string, known: readonly string[]): string {
  const near = known
    .map((name) => [distance(key.toLowerCase(), name.toLowerCase()), name] as const)
    .sort(([a], [b]) => a - b)[0];
  return near && near[0] <= Math.max(2, key.length / 3) ? `; did you mean '${near[1]}'?` : '';
}

/** Levenshtein distance. */
function distance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      next[j] = Math.min(
        (row[j] as number) + 1,
        (next[j - 1] as number) + 1,
        (row[j - 1] as number) + Number(a[i - 1] !== b[j - 1]),
      );
    }
    row = next;
  }
  return row[b.length] as number;
}
