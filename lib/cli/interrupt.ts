/** Exit codes as a shell has them. */
const codes = { SIGHUP: 129, SIGINT: 130, SIGPIPE: 141, SIGTERM: 143 } as const;
type Name = keyof typeof codes;
// Node ignores SIGPIPE, and a listener would undo that: a failed write tells instead.
const signals = ['SIGHUP', 'SIGINT', 'SIGTERM'] as const satisfies Name[];
const reasons = {
  SIGHUP: 'the terminal was closed',
  SIGINT: 'interrupted',
  SIGPIPE: 'nobody reads the output any more',
  SIGTERM: 'terminated',
} as const satisfies Record<Name, string>;

/** Ctrl-C and its like: the first asks the run to stop at the next step and save, the second ends at once. */
export class Interrupted extends Error {
  readonly exitCode: number;

  constructor(name: Name) {
    super(`${reasons[name]}; saved: go on with --resume`);
    this.exitCode = codes[name];
  }
}

let whenUnread: (() => void) | undefined;

/** Nobody reads the output any more; false where nothing is under way that could stop for it. */
export function outputUnread(): boolean {
  whenUnread?.();
  return whenUnread !== undefined;
}

/** A signal that aborts with Interrupted; `onFirst` may tell the user to wait. */
export function interruptSignal(onFirst: () => void): { signal: AbortSignal; release: () => void } {
  const controller = new AbortController();
  const listen = (name: Name) => () => {
    if (controller.signal.aborted) process.exit(codes[name]);
    onFirst();
    controller.abort(new Interrupted(name));
  };
  const listeners = signals.map((name) => [name, listen(name)] as const);
  whenUnread = listen('SIGPIPE');
  for (const [name, listener] of listeners) process.on(name, listener);
  return {
    signal: controller.signal,
    release: () => {
      whenUnread = undefined;
      for (const [name, listener] of listeners) process.off(name, listener);
    },
  };
}
