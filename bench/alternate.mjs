// Peers as processes that take turns: each keeps its weights, one of them computes at a time.  A round asks each for
// its time; ratios are taken within a round, so that what disturbs the machine for longer than a round cancels.
import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { disagreement } from './data.mjs';

/** The threads of a BLAS keep polling for some 25 ms after their last product; they shall not disturb the next peer. */
const settle = () => new Promise((done) => setTimeout(done, 60));

export const median = (values) => [...values].sort((a, b) => a - b)[values.length >> 1];

class Process {
  constructor({ name, command, args, env }) {
    this.name = name;
    this.child = spawn(command, args, { env: { ...process.env, ...env }, stdio: ['pipe', 'pipe', 'pipe'] });
    this.errors = '';
    this.child.stderr.on('data', (text) => {
      this.errors = `${this.errors}${text}`.slice(-2000);
    });
    this.ended = new Promise((done) => this.child.on('close', done));
    this.child.on('error', (error) => {
      this.errors += error.message;
    });
    this.child.stdin.on('error', () => {}); // its end is noticed by the answer that does not come
    this.lines = createInterface({ input: this.child.stdout })[Symbol.asyncIterator]();
  }

  async answer() {
    for (;;) {
      const { value, done } = await this.lines.next();
      if (done) {
        await this.ended;
        const lines = this.errors.trim().split('\n');
        const why = lines.find((line) => /^\w*Error\b/.test(line)) ?? lines.at(-1);
        throw new Error(`${this.name} ended (${this.child.exitCode ?? this.child.signalCode}): ${why}`);
      }
      if (value.startsWith('{')) return JSON.parse(value);
    }
  }

  ask(command) {
    this.child.stdin.write(`${command}\n`);
    return this.answer();
  }

  async end() {
    this.child.stdin.end();
    await this.ended;
  }
}

/**
 * Times peers of one shape against each other.  A peer is { name, command, args, env, bytes, tolerance, rounds };
 * `tolerance` is what its first step may differ by from the first peer's, relative to the largest value, and undefined
 * where there is nothing to compare.  Peers that do not fit into `budget` bytes together run in groups, each with the
 * first peer; one that fails is reported in `skipped`.
 *
 * @returns {Promise<{ rows: object[], skipped: { name: string, why: string }[] }>}
 */
export async function alternate(peers, { rounds, budget }) {
  const [first, ...others] = peers;
  const rows = [];
  const skipped = [];
  for (const group of groups(first, others, budget, skipped)) {
    const running = [];
    try {
      let reference;
      for (const peer of group) {
        const process = new Process(peer);
        try {
          await process.answer();
          const check = await process.ask('check');
          if (peer === first) reference = check;
          const agreement = peer.tolerance === undefined ? undefined : within(peer, check, reference);
          const {
            ms: [once],
          } = await process.ask('time 1 0');
          running.push({ peer, process, agreement, times: [], ...turnOf(once) });
        } catch (error) {
          await process.end();
          if (peer === first) throw error;
          skipped.push({ name: peer.name, why: error.message });
        }
      }
      for (let round = 0; round < rounds; round++) {
        for (const each of running) {
          if (round >= (each.peer.rounds ?? rounds)) continue;
          await settle();
          const { ms } = await each.process.ask(`time ${each.steps} ${each.warm}`);
          each.times.push(median(ms));
        }
      }
      for (const each of running) {
        const { extraMiB } = await each.process.ask('memory');
        rows.push({ ...summary(each, running), extraMiB: Math.round(extraMiB * 10) / 10 });
      }
    } finally {
      for (const { process } of running) await process.end();
    }
  }
  return { rows: rows.filter((row, i) => rows.findIndex(({ peer }) => peer === row.peer) === i), skipped };
}

function groups(first, others, budget, skipped) {
  const out = [];
  for (const peer of others) {
    if (first.bytes + peer.bytes > budget) {
      const GiB = (bytes) => (bytes / 2 ** 30).toFixed(1);
      skipped.push({
        name: peer.name,
        why: `needs some ${GiB(peer.bytes)} GiB beside ${GiB(first.bytes)} of ${first.name}, more than the ${GiB(budget)} allowed (--memory)`,
      });
      continue;
    }
    const free = out.find((group) => group.reduce((sum, { bytes }) => sum + bytes, 0) + peer.bytes <= budget);
    if (free) free.push(peer);
    else out.push([first, peer]);
  }
  return out.length > 0 ? out : [[first]];
}

function within(peer, check, reference) {
  const found = disagreement(check, reference);
  for (const [what, by] of Object.entries(found)) {
    if (!(by <= peer.tolerance)) {
      throw new Error(
        `${peer.name} computes something else: its ${what} differs by ${by}, more than ${peer.tolerance}`,
      );
    }
  }
  return found;
}

/** A turn lasts some 150 ms or one step; short steps are preceded by one that fills the caches. */
function turnOf(ms) {
  return { steps: Math.max(1, Math.min(5, Math.round(150 / ms))), warm: ms < 200 ? 1 : 0 };
}

function summary({ peer, times, agreement, steps }, running) {
  const against = (other) => median(times.map((ms, round) => ms / other.times[round]));
  const gemm3 = running.find((each) => each.peer.name === 'gemm3');
  return {
    peer: peer.name,
    version: peer.version,
    rounds: times.length,
    steps,
    ms: median(times),
    min: Math.min(...times),
    max: Math.max(...times),
    perOurs: against(running[0]),
    ...(gemm3 && gemm3.times.length >= times.length ? { perGemm3: against(gemm3) } : {}),
    ...(agreement ? { agreement, tolerance: peer.tolerance } : {}),
  };
}
