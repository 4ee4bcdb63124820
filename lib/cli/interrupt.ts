/** Ctrl-C and SIGTERM: the first asks the run to stop at the next step and save, the second ends at once. */
export class Interrupted extends Error {
  readonly exitCode: number;

  constructor(signal: 'SIGINT' | 'SIGTERM') {
    super(`${signal === 'SIGINT' ? 'interrupted' : 'terminated'}; saved: go on with --resume`);
    this.exitCode = signal === 'SIGINT' ? 130 : 143;
  }
}

/** A signal that aborts with Interrupted; `onFirst` may tell the user to wait. */
export function interruptSignal(onFirst: () => void): { signal: AbortSignal; release: () => void } {
  const controller = new AbortController();
  const listen = (name: 'SIGINT' | 'SIGTERM') => () => {
    if (controller.signal.aborted) process.exit(name === 'SIGINT' ? 130 : 143);
    onFirst();
    controller.abort(new Interrupted(name));
  };
  const listeners = { SIGINT: listen('SIGINT'), SIGTERM: listen('SIGTERM') };
  for (const [name, listener] of Object.entries(listeners)) process.on(name, listener);
  return {
    signal: controller.signal,
    release: () => {
      for (const [name, listener] of Object.entries(listeners)) process.off(name, listener);
    },
  };
}
