/** Modules: what has parameters, buffers and a forward. */
import { counted, describe, expected, ShapeError } from '../errors.js';
import { type HostArray, keep, Tensor } from '../tensor.js';

/** Named arrays with shapes: what a checkpoint holds and what crosses between frameworks. */
export type StateDict = Map<string, { shape: readonly number[]; data: HostArray }>;

/**
 * A part of a network.  Parameters, buffers and child modules are found in its fields, in the order of their
 * declaration, under the names that PyTorch would give them (`layer1.0.conv1.weight`).
 *
 * @example
 * class Net extends Module {
 *   readonly fc = new Linear(32, 16, { rng });
 *   override forward(x: Tensor) { return relu(this.fc.forward(x)); }
 * }
 */
export abstract class Module<Output = Tensor> {
  training = true;

  abstract forward(x: Tensor): Output;

  /** Child modules with their names; arrays of modules are numbered. */
  *children(): Generator<[string, Module<unknown>]> {
    for (const [name, value] of Object.entries(this)) {
      if (value instanceof Module) yield [name, value];
      else if (Array.isArray(value)) {
        for (const [i, item] of value.entries()) if (item instanceof Module) yield [`${name}.${i}`, item];
      }
    }
  }

  /** Every tensor this module owns, parameters and buffers, with its full name. */
  *namedTensors(prefix = ''): Generator<[string, Tensor]> {
    for (const [name, value] of Object.entries(this)) if (value instanceof Tensor) yield [prefix + name, value];
    for (const [name, child] of this.children()) yield* child.namedTensors(`${prefix}${name}.`);
  }

  *namedParameters(): Generator<[string, Tensor]> {
    for (const [name, x] of this.namedTensors()) if (x.requiresGrad) yield [name, x];
  }

  parameters(): Tensor[] {
    return Array.from(this.namedParameters(), ([, x]) => x);
  }

  /** Number of trainable values. */
  parameterCount(): number {
    return this.parameters().reduce((n, x) => n + x.size, 0);
  }

  /** Sets training or evaluation for the whole tree. */
  train(training = true): this {
    this.training = training;
    for (const [, child] of this.children()) child.train(training);
    return this;
  }

  eval(): this {
    return this.train(false);
  }

  stateDict(): StateDict {
    return new Map(Array.from(this.namedTensors(), ([name, x]) => [name, { shape: x.shape, data: x.toArray() }]));
  }

  /** Overwrites every tensor; a missing, surplus or misshapen entry is an error and nothing is changed. */
  loadStateDict(state: StateDict): void {
    expected(state instanceof Map, 'loadStateDict', 'a state, as stateDict() returns it', state);
    const own = new Map(this.namedTensors());
    const problems = [
      ...[...own.keys()].filter((name) => !state.has(name)).map((name) => `missing ${name}`),
      ...[...state.keys()].filter((name) => !own.has(name)).map((name) => `unknown ${name}`),
      ...[...own].flatMap(([name, x]) => {
        const entry = state.get(name);
        if (!entry) return [];
        if (!Array.isArray(entry.shape) || !ArrayBuffer.isView(entry.data))
          return [`${name}: expected { shape, data }, got ${describe(entry)}`];
        if (entry.shape.join() !== x.shape.join())
          return [`${name}: expected [${x.shape.join(', ')}], got [${entry.shape.join(', ')}]`];
        const dtype = entry.data.constructor.name.replace('Array', '').toLowerCase();
        if (entry.data.length !== x.size) return [`${name}: expected ${x.size} values, got ${entry.data.length}`];
        return dtype === x.dtype ? [] : [`${name}: expected ${x.dtype}, got ${dtype}`];
      }),
    ];
    if (problems.length > 0) {
      const shown = problems.slice(0, 8).join('\n  ');
      throw new ShapeError(
        `loadStateDict: ${counted(problems.length, 'entry does not', 'entries do not')} fit\n  ${shown}`,
        {
          code: 'ERR_FM_SHAPE',
          hint: 'build the network with the options it was saved with',
        },
      );
    }
    for (const [name, x] of own) x.set((state.get(name) as { data: HostArray }).data);
  }

  dispose(): void {
    for (const [, x] of this.namedTensors()) {
      x.grad?.dispose();
      x.dispose();
    }
  }
}

/** A tensor that belongs to a module but is not trained: it outlives scopes. */
export function buffer(x: Tensor): Tensor {
  return keep(x);
}
