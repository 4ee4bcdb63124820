import type { DataError } from '../errors.js';
import { dataError, remedies } from './dataError.js';

// The part of Python's pickle format (protocols 0 to 5) that pair sets use: lists, tuples, byte strings, numbers,
// booleans, and numpy's uint8 and bool arrays and scalars. Names of Python objects are looked up in a table of plain
// constructors below; no other name, and no opcode that could call anything, is accepted.

/** What a pickle of a pair set is made of. */
export type PickleValue = null | boolean | number | string | Uint8Array | NdArray | readonly PickleValue[];

/** A numpy array of uint8 or bool, C order. */
export class NdArray {
  constructor(
    readonly dtype: 'u1' | 'b1',
    readonly shape: readonly number[],
    readonly data: Uint8Array,
  ) {}
}

/** numpy.dtype, before and after its BUILD. */
class Dtype {
  constructor(readonly code: string) {}
}

/** numpy's `_reconstruct` yields an empty array that BUILD fills. */
class Unbuilt {
  value: NdArray | undefined;
}

class Callable {
  constructor(
    readonly name: string,
    readonly call: (args: readonly Item[]) => Item | undefined,
  ) {}
}

class Mark {}

type Item = null | boolean | number | string | Uint8Array | NdArray | Dtype | Unbuilt | Callable | Mark | Item[];

/** The bytes of a text whose characters are all below 256. */
const latin1 = (text: string): Uint8Array | undefined => {
  const bytes = Buffer.from(text, 'latin1');
  return bytes.toString('latin1') === text ? bytes : undefined;
};
const isLatin1 = (text: Item): boolean => text === 'latin1' || text === 'latin-1';

const bytesOf = (data: Item): Uint8Array | undefined =>
  data instanceof Uint8Array ? data : typeof data === 'string' ? latin1(data) : undefined;

function array(dtype: Item, shape: Item, data: Item): NdArray | undefined {
  const bytes = bytesOf(data);
  if (!(dtype instanceof Dtype) || (dtype.code !== 'u1' && dtype.code !== 'b1')) return undefined;
  if (bytes === undefined || !Array.isArray(shape) || !shape.every((size) => typeof size === 'number'))
    return undefined;
  const sizes = shape as number[];
  return sizes.reduce((a, b) => a * b, 1) === bytes.length ? new NdArray(dtype.code, sizes, bytes) : undefined;
}

const reconstruct = (args: readonly Item[]): Item | undefined =>
  args[0] instanceof Callable && args[0].name === 'numpy.ndarray' ? new Unbuilt() : undefined;
const scalar = ([dtype, data]: readonly Item[]): Item | undefined => {
  const value = array(dtype, [], data);
  return value === undefined ? undefined : value.dtype === 'b1' ? value.data[0] !== 0 : value.data[0];
};
const fromBuffer = ([data, dtype, shape, order]: readonly Item[]): Item | undefined =>
  order === 'C' || (Array.isArray(shape) && shape.length < 2) ? array(dtype, shape, data) : undefined;
const toBytes = (args: readonly Item[]): Item | undefined => {
  const [text = '', encoding = 'latin1'] = args;
  return isLatin1(encoding) ? bytesOf(text) : undefined;
};
const dtypeOf = ([code]: readonly Item[]): Item | undefined => {
  const text = code instanceof Uint8Array ? String.fromCharCode(...code) : code;
  return typeof text === 'string' ? new Dtype(text.replace(/^[|<=>]/, '')) : undefined;
};
const notCallable = (): undefined => undefined;

/** Every Python name that may occur, and what it makes of its arguments; undefined = not in the accepted form. */
const globals: Readonly<Record<string, (args: readonly Item[]) => Item | undefined>> = {
  'numpy.core.multiarray._reconstruct': reconstruct,
  'numpy._core.multiarray._reconstruct': reconstruct,
  'numpy.core.multiarray.scalar': scalar,
  'numpy._core.multiarray.scalar': scalar,
  'numpy.core.numeric._frombuffer': fromBuffer,
  'numpy._core.numeric._frombuffer': fromBuffer,
  'numpy.ndarray': notCallable,
  'numpy.dtype': dtypeOf,
  '_codecs.encode': toBytes,
  'builtins.bytes': toBytes,
  '__builtin__.bytes': toBytes,
  'builtins.bytearray': toBytes,
  '__builtin__.bytearray': toBytes,
};

/** Opcodes that are refused, by the names that `pickletools` gives them. */
const refused: Readonly<Record<number, string>> = {
  80: 'PERSID',
  81: 'BINPERSID',
  105: 'INST',
  111: 'OBJ',
  129: 'NEWOBJ',
  146: 'NEWOBJ_EX',
  130: 'EXT1',
  131: 'EXT2',
  132: 'EXT4',
  100: 'DICT',
  125: 'EMPTY_DICT',
  115: 'SETITEM',
  117: 'SETITEMS',
  143: 'EMPTY_SET',
  144: 'ADDITEMS',
  145: 'FROZENSET',
  151: 'NEXT_BUFFER',
};

const op = (char: string): number => char.charCodeAt(0);

/** Opcodes that are accepted. */
const opcodes: Readonly<Record<number, readonly [name: string, run: (m: Machine) => void]>> = {
  128: ['PROTO', (m) => m.protocol()],
  149: ['FRAME', (m) => void m.take(8)],
  [op('(')]: ['MARK', (m) => m.push(new Mark())],
  [op('0')]: ['POP', (m) => void m.pop()],
  [op('1')]: ['POP_MARK', (m) => void m.popMark()],
  [op('N')]: ['NONE', (m) => m.push(null)],
  136: ['NEWTRUE', (m) => m.push(true)],
  137: ['NEWFALSE', (m) => m.push(false)],
  [op('I')]: ['INT', (m) => m.pushInt(m.line())],
  [op('L')]: ['LONG', (m) => m.pushInt(m.line().replace(/L$/, ''))],
  [op('J')]: ['BININT', (m) => m.push(m.uint(4) | 0)],
  [op('K')]: ['BININT1', (m) => m.push(m.uint(1))],
  [op('M')]: ['BININT2', (m) => m.push(m.uint(2))],
  138: ['LONG1', (m) => m.push(signed(m.take(m.uint(1)), m))],
  [op('S')]: ['STRING', (m) => m.push(Buffer.from(unescape2(m.line(), m), 'latin1'))],
  [op('T')]: ['BINSTRING', (m) => m.push(m.take(m.uint(4)))],
  [op('U')]: ['SHORT_BINSTRING', (m) => m.push(m.take(m.uint(1)))],
  [op('B')]: ['BINBYTES', (m) => m.push(m.take(m.uint(4)))],
  [op('C')]: ['SHORT_BINBYTES', (m) => m.push(m.take(m.uint(1)))],
  142: ['BINBYTES8', (m) => m.push(m.take(m.uint(8)))],
  150: ['BYTEARRAY8', (m) => m.push(m.take(m.uint(8)))],
  [op('V')]: ['UNICODE', (m) => m.push(rawUnicodeEscape(m.line()))],
  [op('X')]: ['BINUNICODE', (m) => m.push(utf8(m.take(m.uint(4))))],
  140: ['SHORT_BINUNICODE', (m) => m.push(utf8(m.take(m.uint(1))))],
  141: ['BINUNICODE8', (m) => m.push(utf8(m.take(m.uint(8))))],
  [op(']')]: ['EMPTY_LIST', (m) => m.push([])],
  [op('l')]: ['LIST', (m) => m.push(m.popMark())],
  [op('a')]: ['APPEND', (m) => m.append([m.pop()])],
  [op('e')]: ['APPENDS', (m) => m.append(m.popMark())],
  [op(')')]: ['EMPTY_TUPLE', (m) => m.push([])],
  [op('t')]: ['TUPLE', (m) => m.push(m.popMark())],
  133: ['TUPLE1', (m) => m.push(m.popMany(1))],
  134: ['TUPLE2', (m) => m.push(m.popMany(2))],
  135: ['TUPLE3', (m) => m.push(m.popMany(3))],
  [op('p')]: ['PUT', (m) => m.put(Number(m.line()))],
  [op('q')]: ['BINPUT', (m) => m.put(m.uint(1))],
  [op('r')]: ['LONG_BINPUT', (m) => m.put(m.uint(4))],
  148: ['MEMOIZE', (m) => m.put(m.memo.size)],
  [op('g')]: ['GET', (m) => m.get(Number(m.line()))],
  [op('h')]: ['BINGET', (m) => m.get(m.uint(1))],
  [op('j')]: ['LONG_BINGET', (m) => m.get(m.uint(4))],
  [op('c')]: ['GLOBAL', (m) => m.global(m.line(), m.line())],
  147: ['STACK_GLOBAL', (m) => m.global(...(m.popMany(2) as [Item, Item]))],
  [op('R')]: ['REDUCE', (m) => m.reduce()],
  [op('b')]: ['BUILD', (m) => m.build()],
  152: ['READONLY_BUFFER', () => {}],
};

const STOP = op('.');

class Machine {
  readonly memo = new Map<number, Item>();
  readonly #stack: Item[] = [];
  #at = 0;
  #opcode = 'start';
  #opcodeAt = 0;

  constructor(
    private readonly bytes: Uint8Array,
    private readonly name: string,
  ) {}

  run(): Item {
    for (;;) {
      this.#opcodeAt = this.#at;
      const code = this.uint(1);
      if (code === STOP) break;
      const entry = opcodes[code];
      if (entry === undefined) {
        this.#opcode = refused[code] ?? `0x${code.toString(16).padStart(2, '0')}`;
        throw this.refuse('is not part of a pair set');
      }
      this.#opcode = entry[0];
      entry[1](this);
    }
    this.#opcode = 'STOP';
    return this.pop();
  }

  refuse(why: string): DataError {
    return dataError(
      `${this.name} at byte ${this.#opcodeAt}: pickle opcode ${this.#opcode} ${why}; nothing of the file was executed`,
      'expected (list of encoded images, list of booleans) pickled from bytes or uint8 arrays',
    );
  }

  take(length: number): Uint8Array {
    if (this.#at + length > this.bytes.length) {
      throw dataError(
        `${this.name} at byte ${this.#at}: expected ${length} more bytes for pickle opcode ${this.#opcode}, got ${this.bytes.length - this.#at}: the file is truncated or no pickle`,
        remedies.copy,
      );
    }
    this.#at += length;
    return this.bytes.subarray(this.#at - length, this.#at);
  }

  uint(length: number): number {
    return this.take(length).reduceRight((value, byte) => value * 256 + byte, 0);
  }

  line(): string {
    const end = this.bytes.indexOf(10, this.#at);
    const text = this.take((end < 0 ? this.bytes.length : end) - this.#at);
    this.take(1);
    return Buffer.from(text.buffer, text.byteOffset, text.length).toString('latin1');
  }

  protocol(): void {
    const version = this.uint(1);
    if (version > 5) throw this.refuse(`names protocol ${version}, but 0 to 5 are known`);
  }

  push(item: Item): void {
    this.#stack.push(item);
  }

  pushInt(text: string): void {
    // Protocols 0 and 1 write booleans as the integers 00 and 01.
    if (text === '00' || text === '01') {
      this.push(text === '01');
      return;
    }
    const value = Number(text.trim());
    if (!Number.isSafeInteger(value)) throw this.refuse(`has the number ${text.slice(0, 30)}`);
    this.push(value);
  }

  pop(): Item {
    const item = this.#stack.pop();
    if (item === undefined) throw this.refuse('finds an empty stack');
    return item;
  }

  popMany(count: number): Item[] {
    if (this.#stack.length < count) throw this.refuse('finds too few values on the stack');
    return this.#stack.splice(this.#stack.length - count);
  }

  popMark(): Item[] {
    let at = this.#stack.length - 1;
    while (at >= 0 && !(this.#stack[at] instanceof Mark)) at--;
    if (at < 0) throw this.refuse('finds no mark on the stack');
    return this.#stack.splice(at).slice(1);
  }

  append(items: readonly Item[]): void {
    const list = this.#stack.at(-1);
    if (!Array.isArray(list)) throw this.refuse('finds no list to append to');
    for (const item of items) list.push(item);
  }

  put(key: number): void {
    const top = this.#stack.at(-1);
    if (top === undefined) throw this.refuse('finds an empty stack');
    this.memo.set(key, top);
  }

  get(key: number): void {
    const item = this.memo.get(key);
    if (item === undefined) throw this.refuse(`asks for value ${key}, which was not stored`);
    this.push(item);
  }

  global(module: Item, name: Item): void {
    const full = `${text(module)}.${text(name)}`;
    const call = Object.hasOwn(globals, full) ? globals[full] : undefined;
    if (call === undefined) throw this.refuse(`asks for the Python object ${JSON.stringify(full.slice(0, 80))}`);
    this.push(new Callable(full, call));
  }

  reduce(): void {
    const [callable, args] = this.popMany(2);
    if (!(callable instanceof Callable) || !Array.isArray(args))
      throw this.refuse('calls something that is no known constructor');
    const made = callable.call(args);
    if (made === undefined)
      throw this.refuse(`gives ${callable.name} arguments that are not those of a uint8 or bool array or of bytes`);
    this.push(made);
  }

  build(): void {
    const state = this.pop();
    const target = this.#stack.at(-1);
    // dtype's state is its byte order and fields, of which one-byte types have none.
    if (target instanceof Dtype && Array.isArray(state)) return;
    if (!(target instanceof Unbuilt) || !Array.isArray(state))
      throw this.refuse('sets the state of something that is no array');
    const [, shape, dtype, fortran, data] = state;
    target.value = fortran === true && Array.isArray(shape) && shape.length > 1 ? undefined : array(dtype, shape, data);
    if (target.value === undefined) throw this.refuse('describes an array that is not of uint8 or bool in C order');
  }
}

/**
 * Reads a pickle of protocol 0 to 5 that holds nothing but lists, tuples, bytes, numbers, booleans and numpy uint8 or
 * bool arrays. Anything else is refused with the opcode and its offset; nothing is ever executed. Byte strings are views
 * of `bytes`. `name` names the file in errors.
 *
 * @example
 * readPickle(Uint8Array.of(0x80, 2, 0x88, 0x2e), 'true.pkl');   // true
 */
export function readPickle(bytes: Uint8Array, name: string): PickleValue {
  const machine = new Machine(bytes, name);
  // A list may hold itself, or the same list many times over; honest data has no more values than the file has bytes.
  let budget = bytes.length;
  const resolve = (item: Item): PickleValue => {
    if (--budget < 0) throw machine.refuse('leaves lists that contain each other');
    if (item instanceof Unbuilt && item.value !== undefined) return item.value;
    if (Array.isArray(item)) return item.map(resolve);
    if (item instanceof Unbuilt || item instanceof Dtype || item instanceof Callable || item instanceof Mark) {
      throw machine.refuse('leaves a value that is no data');
    }
    return item;
  };
  return resolve(machine.run());
}

function text(item: Item): string {
  return typeof item === 'string' ? item : item instanceof Uint8Array ? utf8(item) : '?';
}

const utf8 = (bytes: Uint8Array): string => new TextDecoder('utf-8').decode(bytes);

function signed(bytes: Uint8Array, machine: Machine): number {
  if (bytes.length > 6) throw machine.refuse('has a number of more than 48 bits');
  const value = bytes.reduceRight((sum, byte) => sum * 256 + byte, 0);
  return bytes.length > 0 && bytes[bytes.length - 1] >= 128 ? value - 256 ** bytes.length : value;
}

const simpleEscapes: Readonly<Record<string, string>> = { n: '\n', r: '\r', t: '\t', '\\': '\\', "'": "'", '"': '"' };

/** The repr() of a Python 2 str, as protocol 0 writes it. */
function unescape2(literal: string, machine: Machine): string {
  const quote = literal[0];
  if ((quote !== "'" && quote !== '"') || literal.at(-1) !== quote || literal.length < 2) {
    throw machine.refuse('has a string without quotes');
  }
  return literal
    .slice(1, -1)
    .replace(/\\(x[0-9a-fA-F]{2}|[nrt\\'"])/g, (_, code: string) =>
      code.length === 3 ? String.fromCharCode(Number.parseInt(code.slice(1), 16)) : simpleEscapes[code],
    );
}

/** Python's raw-unicode-escape: \uXXXX and \UXXXXXXXX, all else latin-1. */
function rawUnicodeEscape(line: string): string {
  return line.replace(/\\u([0-9a-fA-F]{4})|\\U([0-9a-fA-F]{8})/g, (_, short?: string, long?: string) =>
    // Past the last code point Python refuses too; such a string is no image and no class.
    String.fromCodePoint(Math.min(0x10ffff, Number.parseInt(short ?? (long as string), 16))),
  );
}
