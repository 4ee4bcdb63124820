/** A tape: each operation remembers how to turn the gradient of its output into gradients of its inputs. */
import { type Handle, native } from './binding.js';
import { ArgumentTypeError, describe, expected, named, ShapeError } from './errors.js';
import { checkTensor, keep, ones, Tensor, tensorsIn } from './tensor.js';

let recording = true;

/** Runs f without remembering anything for a backward pass: for evaluation. */
export function noGrad<T>(f: () => T): T {
  expected(typeof f === 'function', 'noGrad', 'a function', f);
  const before = recording;
  recording = false;
  try {
    return f();
  } finally {
    recording = before;
  }
}

export interface OpDefinition<Inputs extends readonly Tensor[], Attributes, Saved> {
  readonly name: string;
  /** Runs the operation; `saved` is all that backward may see besides the inputs. */
  forward(inputs: Inputs, attributes: Attributes): { y: Handle; saved: Saved };
  /** Gradients of the inputs, in their order (dy itself may be among them); `needs` is false where nobody will look. */
  backward(
    dy: Handle,
    context: { inputs: Inputs; attributes: Attributes; saved: Saved; needs: readonly boolean[] },
  ): readonly (Handle | undefined)[];
}

/**
 * Makes an operation of a forward and its backward.
 *
 * @example
 * const double = defineOp<readonly [Tensor], undefined, undefined>({
 *   name: 'double',
 *   forward: ([x]) => ({ y: native.scale(x.handle, 2), saved: undefined }),
 *   backward: (dy) => [native.scale(dy, 2)],
 * });
 */
export function defineOp<Inputs extends readonly Tensor[], Attributes, Saved>(
  definition: OpDefinition<Inputs, Attributes, Saved>,
): (inputs: Inputs, attributes: Attributes) => Tensor {
  return (inputs, attributes) => {
    for (const x of inputs) if (!(x instanceof Tensor)) throw notTensor(definition.name, x);
    const { y, saved } = named(definition.name, () => definition.forward(inputs, attributes));
    const release = () => {
      for (const kept of tensorsIn(saved)) kept.dispose();
    };
    const device = inputs[0]?.device ?? 'cpu';
    const out = new Tensor(y, device);
    const needs = inputs.map((x) => x.requiresGrad || x.node !== undefined);
    if (recording && needs.some(Boolean)) {
      out.node = {
        name: definition.name,
        inputs,
        release,
        backward: (dy) =>
          definition
            .backward(dy.handle, { inputs, attributes, saved, needs })
            .map((handle) => (handle === dy.handle ? dy : handle && new Tensor(handle, device))),
      };
    } else {
      release();
    }
    return out;
  };
}

function notTensor(operation: string, x: unknown): ArgumentTypeError {
  return new ArgumentTypeError(`${operation}: expected tensors, got ${describe(x)}`, { code: 'ERR_FM_TYPE' });
}

/**
 * Adds to the `grad` of every parameter behind `y` the gradient of ⟨dy, y⟩; dy is 1 for a tensor of one element.
 * Frees the tape behind `y` on the way.
 */
export function backward(y: Tensor, dy?: Tensor): void {
  backwardFrom([[y, dy]]);
}

/**
 * backward() of a sum of parts that share a tape: adds the gradient of Σ ⟨dy, y⟩, in one walk.
 *
 * @example
 * const { embedding, groupLoss } = groupFace.forward(features);
 * const { gradEmbeddings } = head.stepSync(embedding, labels, { lr });
 * backwardFrom([[embedding, gradEmbeddings], [groupLoss]]);
 */
export function backwardFrom(parts: readonly (readonly [y: Tensor, dy?: Tensor])[]): void {
  const flows = new Map<Tensor, Flow>();
  expected(Array.isArray(parts), 'backward', 'a list of [tensor, gradient]', parts);
  for (const part of parts) {
    expected(Array.isArray(part), 'backward', 'a list of [tensor, gradient]', parts);
    const [y, dy] = part as (typeof parts)[number];
    checkTensor('backward', 'y', y);
    if (dy !== undefined) checkTensor('backward', 'dy', dy);
    const start = dy ?? scalarOne(y);
    if (start.shape.join() !== y.shape.join()) {
      throw new ShapeError(`backward: expected dy [${y.shape.join(', ')}], got [${start.shape.join(', ')}]`, {
        code: 'ERR_FM_SHAPE',
      });
    }
    flows.set(y, merged(flows.get(y), { gradient: start, users: 1, owned: dy === undefined }));
  }
  for (const out of inReverseOrder(parts.map(([y]) => y))) {
    const flow = flows.get(out);
    flows.delete(out);
    if (!flow) continue;
    const node = out.node;
    out.node = undefined;
    node?.backward(flow.gradient).forEach((part, i) => {
      if (!part) return;
      const input = node.inputs[i] as Tensor;
      const arriving: Flow = part === flow.gradient ? flow : { gradient: part, users: 0, owned: true };
      arriving.users++;
      if (!input.requiresGrad && !input.node) release(arriving);
      else flows.set(input, merged(flows.get(input), arriving));
    });
    node?.release();
    if (out.requiresGrad) leaveGradient(out, flow);
    else release(flow);
  }
}

/** A gradient on its way, and how many tensors it is the gradient of; only a sole user may write into it. */
interface Flow {
  readonly gradient: Tensor;
  users: number;
  readonly owned: boolean;
}

function release(flow: Flow): void {
  if (--flow.users === 0 && flow.owned) flow.gradient.dispose();
}

function merged(before: Flow | undefined, arriving: Flow): Flow {
  if (!before) return arriving;
  for (const [into, from] of [
    [before, arriving],
    [arriving, before],
  ] as const) {
    if (into.owned && into.users === 1) {
      native.accumulate(into.gradient.handle, from.gradient.handle);
      release(from);
      return into;
    }
  }
  const sum = new Tensor(native.add(before.gradient.handle, arriving.gradient.handle), before.gradient.device);
  release(before);
  release(arriving);
  return { gradient: sum, users: 1, owned: true };
}

function leaveGradient(parameter: Tensor, flow: Flow): void {
  const { gradient } = flow;
  if (parameter.grad) {
    native.accumulate(parameter.grad.handle, gradient.handle);
    release(flow);
  } else if (flow.owned && flow.users === 1) {
    parameter.grad = keep(gradient);
  } else {
    parameter.grad = keep(new Tensor(native.scale(gradient.handle, 1), gradient.device));
    release(flow);
  }
}

function scalarOne(y: Tensor): Tensor {
  expected(y.size === 1, 'backward', 'dy for a tensor of more than one element', y.shape);
  return ones(y.shape, y.dtype, y.device);
}

/** Every tensor behind the roots, each after all that were made from it. */
function inReverseOrder(roots: readonly Tensor[]): Tensor[] {
  const order: Tensor[] = [];
  const seen = new Set<Tensor>();
  const stack: { at: Tensor; next: number }[] = [];
  const visit = (x: Tensor) => {
    if (seen.has(x)) return;
    seen.add(x);
    stack.push({ at: x, next: 0 });
  };
  for (const root of roots) {
    visit(root);
    while (stack.length > 0) {
      const top = stack.at(-1) as { at: Tensor; next: number };
      const input = top.at.node?.inputs[top.next++];
      if (input !== undefined) {
        visit(input);
      } else {
        order.push(top.at);
        stack.pop();
      }
    }
  }
  return order.reverse();
}
