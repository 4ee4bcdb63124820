// What TypeScript adds to the native call, and for how long a step off the event loop keeps the event loop waiting.
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { fileURLToPath } from 'node:url';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { MarginHead, presetOf, setNumThreads } from 'flashmargin';
import { median } from '../alternate.mjs';
import { features, labels, weights } from '../data.mjs';

/** Milliseconds of the last native head step, asked of the addon itself: the library takes its functions at first use. */
let nativeMs = 0;
function watchNative() {
  const require = createRequire(import.meta.url);
  const addon = require('bindings')({
    bindings: 'flashmargin',
    module_root: fileURLToPath(new URL('../..', import.meta.url)),
  });
  const { headStep, headStepSync } = addon;
  addon.headStep = async (...args) => {
    const began = performance.now();
    try {
      return await headStep(...args);
    } finally {
      nativeMs = performance.now() - began;
    }
  };
  addon.headStepSync = (...args) => {
    const began = performance.now();
    try {
      return headStepSync(...args);
    } finally {
      nativeMs = performance.now() - began;
    }
  };
}

function makeHead({ N, D, C, method }) {
  const head = new MarginHead({ numClasses: C, embeddingSize: D, margin: presetOf(method), onAdvice: () => {} });
  head.weight.set(weights(C * D));
  return { head, x: features(N, D), y: labels(N, C) };
}

/** Time of a whole call less the native part of the same call, as a share of the latter. */
async function callOverhead({ record, shape, rounds, threads }) {
  setNumThreads(threads);
  for (const method of ['arcface', 'curricularface', 'adaptiveface']) {
    const { head, x, y } = makeHead({ ...shape, method });
    for (const call of ['step', 'stepSync']) {
      const samples = [];
      // A head also looks for something amiss in its first twenty steps.
      for (let round = -20; round < rounds; round++) {
        const began = performance.now();
        await head[call](x, y, { lr: 1e-6 });
        const ms = performance.now() - began;
        if (round >= 0) samples.push({ ms, inside: nativeMs });
      }
      record({
        bench: 'overhead',
        call,
        method,
        ...shape,
        threads,
        rounds,
        ms: median(samples.map(({ ms }) => ms)),
        nativeMs: median(samples.map(({ inside }) => inside)),
        overheadMs: median(samples.map(({ ms, inside }) => ms - inside)),
        overhead: median(samples.map(({ ms, inside }) => ms / inside - 1)),
      });
    }
    head.dispose();
  }
}

setFlagsFromString('--expose-gc');
const gc = runInNewContext('gc');

/** Milliseconds that the main thread has been ready to run without a core to run on, since it began. */
function queuedMs() {
  const [, waited] = readFileSync(`/proc/${process.pid}/task/${process.pid}/schedstat`, 'utf8').split(' ');
  return Number(waited) / 1e6;
}

/**
 * Runs f while a timer of 1 ms ticks: the longest and the usual gap between two ticks, and the longest without what
 * the thread spent waiting for a core, which is the one that the library answers for.
 */
async function whileTicking(f) {
  const delay = monitorEventLoopDelay({ resolution: 1 });
  let last = performance.now();
  let queued = queuedMs();
  let ownMax = 0;
  const gaps = [];
  const ticker = setInterval(() => {
    const waited = queuedMs();
    const now = performance.now();
    gaps.push(now - last);
    ownMax = Math.max(ownMax, now - last - (waited - queued));
    last = now;
    queued = waited;
  }, 1);
  delay.enable();
  const result = await f();
  delay.disable();
  clearInterval(ticker);
  gaps.sort((a, b) => a - b);
  return {
    ...result,
    ticks: gaps.length,
    gapP99Ms: gaps[Math.floor(gaps.length * 0.99)] ?? 0,
    gapMaxMs: gaps.at(-1) ?? 0,
    gapOwnMaxMs: ownMax,
    delayMaxMs: delay.max / 1e6,
  };
}

/** The longest time that the call itself takes before it returns its promise is the part of a step on this thread. */
async function eventLoop({ record, shape, steps, idleMs, threads }) {
  setNumThreads(threads);
  // One without a state, and those whose state looks at the batch, at all classes, or is as long as the classes.
  for (const method of ['arcface', 'curricularface', 'adacos', 'adaptiveface']) {
    const { head, x, y } = makeHead({ ...shape, method });
    await head.step(x, y, { lr: 1e-6 });
    gc(); // of what setting up left, which is not the steps'
    const found = await whileTicking(async () => {
      const began = performance.now();
      let callMaxMs = 0;
      for (let i = 0; i < steps; i++) {
        const called = performance.now();
        const pending = head.step(x, y, { lr: 1e-6 });
        callMaxMs = Math.max(callMaxMs, performance.now() - called);
        await pending;
      }
      return { ms: (performance.now() - began) / steps, callMaxMs };
    });
    record({ bench: 'eventLoop', method, ...shape, threads, steps, ...found });
    head.dispose();
  }
  const idle = await whileTicking(async () => {
    await new Promise((done) => setTimeout(done, idleMs));
    return {};
  });
  record({ bench: 'eventLoop', method: 'idle', threads, ...idle });
}

export async function run({ record, smoke, only }) {
  watchNative();
  for (const threads of smoke ? [1] : [1, 2]) {
    if (only.threads && only.threads !== threads) continue;
    await callOverhead({
      record,
      shape: smoke ? { N: 8, D: 32, C: 400 } : { N: 64, D: 512, C: 10_000 },
      rounds: smoke ? 3 : 61,
      threads,
    });
    const shape = smoke ? { N: 8, D: 32, C: 400 } : { N: 256, D: 512, C: only.C ?? 250_000 };
    await eventLoop({ record, shape, steps: smoke ? 2 : 5, idleMs: smoke ? 50 : 3000, threads });
  }
}
