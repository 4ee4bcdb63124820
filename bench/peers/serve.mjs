// Answers the commands of bench/data.mjs.  A peer gives { step(lr), check() }, either may be asynchronous.
import { readFileSync, writeFileSync } from 'node:fs';
import { createInterface } from 'node:readline';

function statusMiB(field) {
  const [, kib] = new RegExp(`^${field}:\\s+(\\d+)`, 'm').exec(readFileSync('/proc/self/status', 'utf8'));
  return Number(kib) / 1024;
}

function forgetPeak() {
  try {
    writeFileSync('/proc/self/clear_refs', '5');
  } catch {} // a kernel without it counts the peak of setting up too
}

/** Frees what setting up and checking left, so that the peak is that of the steps. */
async function tidyUp() {
  globalThis.gc?.();
  await new Promise((done) => setTimeout(done, 50)); // array buffers are freed on another thread
  forgetPeak();
}

export async function serve({ step, check }) {
  await tidyUp();
  const before = statusMiB('VmRSS');
  const say = (answer) => process.stdout.write(`${JSON.stringify(answer)}\n`);
  const commands = {
    async check() {
      const answer = await check();
      await tidyUp();
      return answer;
    },
    async time(steps, warm) {
      for (let i = 0; i < warm; i++) await step(1e-6);
      const ms = [];
      for (let i = 0; i < steps; i++) {
        const began = performance.now();
        await step(1e-6);
        ms.push(performance.now() - began);
      }
      return { ms };
    },
    memory: () => ({ extraMiB: statusMiB('VmHWM') - before }),
  };
  say({ ready: true });
  for await (const line of createInterface({ input: process.stdin })) {
    const [command, ...numbers] = line.trim().split(' ');
    say(await commands[command](...numbers.map(Number)));
  }
}
