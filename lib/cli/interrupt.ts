/** Exit codes as a shell has them.  SIGPIPE is not the system's, whose signal Node ignores: main.ts emits it. */
const codes = { SIGHUP: 129, SIGINT: 130, SIGPIPE: 141, SIGTERM: 143 } as const;
type Name = keyof typeof codes;
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

/** A signal that aborts with Interrupted; `onFirst` may tell the user to wait. */
export function interruptSignal(onFirst: () => void): { signal: AbortSignal; release: () => void } {
  const controller = new AbortController();
  const listen = (name: Name) => () => {
    if (controller.signal.aborted) process.exit(codes[name]);
    onFirst();
    controller.abort(new Interrupted(name));
  };
  const listeners = (Object.keys(codes) as Name[]).map((name) => [name, listen(name)] as const);
  for (const [name, listener] of listeners) process.on(name, listener);
  return {
    signal: controller.signal,
    release: () => {
      for (const [name, listener] of listeners) process.off(name, listener);
    },
  };
}
