/**
 * A golden file: numbers that a published implementation produced.  It is called `<family>.<source>.<variant>`; its
 * metadata names where it comes from (`source`), hyper-parameters (`hp`, JSON) and what the source's own float32 run
 * loses (`f32_error`, JSON).
 */
import path from 'node:path';
import { DataError } from '../../errors.js';
import { readSafetensors } from '../../io/index.js';
import type { Measurements } from './measure.js';

/** Of tensors and arithmetic; bfloat16 is float32 whose matrix products multiply bfloat16. */
export const precisions = ['float32', 'float64', 'bfloat16'] as const;
export type Precision = (typeof precisions)[number];
export const dtypeOf = (precision: Precision) => (precision === 'float64' ? 'float64' : 'float32');

/** Something a file holds that is checked by itself: a file, or one of its steps. */
export interface GoldenCase {
  readonly name: string;
  readonly family: string;
  /** Repository and file whose numbers they are. */
  readonly source: string;
  readonly precisions: readonly Precision[];
  /** Precisions that are measured when asked for. */
  readonly onRequest?: readonly Precision[];
  /** Of our numbers against the file's, by quantity. */
  measure(precision: Precision, device: string): Measurements;
}

/** What a file asks for is not in this package; said, and no failure. */
export class NotRun extends Error {}

interface GoldenTensor {
  readonly shape: readonly number[];
  readonly data: ArrayLike<number> | BigInt64Array;
}

export class GoldenFile {
  readonly name: string;
  readonly family: string;
  readonly sourceName: string;
  readonly tensors: ReadonlyMap<string, GoldenTensor>;
  readonly metadata: Readonly<Record<string, string>>;
  readonly hp: Readonly<Record<string, unknown>>;

  constructor(name: string, tensors: ReadonlyMap<string, GoldenTensor>, metadata: Readonly<Record<string, string>>) {
    const [family = '', sourceName = ''] = name.split('.');
    this.name = name;
    this.family = family;
    this.sourceName = sourceName;
    this.tensors = tensors;
    this.metadata = metadata;
    this.hp = this.json('hp');
  }

  /** @example GoldenFile.read('test/golden/arcface.insightface.small.safetensors').number('s'); // 64 */
  static read(file: string): GoldenFile {
    const { tensors, metadata } = readSafetensors(file);
    return new GoldenFile(path.basename(file).replace(/\.safetensors$/, ''), tensors, metadata);
  }

  get source(): string {
    return this.metadata.source ?? this.sourceName;
  }

  has(tensor: string): boolean {
    return this.tensors.has(tensor);
  }

  shape(tensor: string): number[] {
    return [...this.#at(tensor).shape];
  }

  /** A tensor's values, or undefined where the file has none of that name. */
  maybe(tensor: string): Float64Array | undefined {
    return this.has(tensor) ? this.values(tensor) : undefined;
  }

  values(tensor: string): Float64Array {
    const { data } = this.#at(tensor);
    return data instanceof BigInt64Array ? Float64Array.from(data, Number) : Float64Array.from(data);
  }

  value(tensor: string): number {
    return this.values(tensor)[0];
  }

  integers(tensor: string): Int32Array {
    return Int32Array.from(this.values(tensor));
  }

  /** A hyper-parameter that must be a number. */
  number(key: string, otherwise?: number): number {
    const value = this.hp[key] ?? otherwise;
    if (typeof value !== 'number') return this.#wrong(`expected hp.${key}, a number, got ${JSON.stringify(value)}`);
    return value;
  }

  json<T>(key: string): T {
    try {
      return JSON.parse(this.metadata[key] ?? '{}') as T;
    } catch (error) {
      return this.#wrong(`expected JSON in the metadata ${key} (${(error as Error).message})`);
    }
  }

  /** What the source's own float32 run loses of a quantity, where the metadata says it. */
  lost(quantity: string): number | undefined {
    return this.json<Record<string, number>>('f32_error')[quantity];
  }

  /** One step of a file whose tensors, but for the `constant` ones, have the step as first axis. */
  step(step: number, constant: readonly string[]): GoldenFile {
    const slice = ({ shape, data }: GoldenTensor): GoldenTensor => {
      const size = data.length / shape[0];
      const values = Array.prototype.slice.call(data, step * size, (step + 1) * size) as number[];
      return { shape: shape.slice(1), data: values.map(Number) };
    };
    const own = [...this.tensors].map(([key, x]) => [key, constant.includes(key) ? x : slice(x)] as const);
    return new GoldenFile(`${this.name}, step ${step}`, new Map(own), this.metadata);
  }

  #at(tensor: string): GoldenTensor {
    return (
      this.tensors.get(tensor) ?? this.#wrong(`expected a tensor ${tensor}, got ${[...this.tensors.keys()].join(', ')}`)
    );
  }

  #wrong(what: string): never {
    throw new DataError(`${this.name}: ${what}`, { code: 'ERR_FM_DATA' });
  }
}
