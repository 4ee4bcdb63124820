// Images a second of iresnet18 at 112 × 112, forward, backward and SGD update:  node bench/backbone.mjs N threads reps
import { backward, nn, ops, optim, setNumThreads, tensor, tidy } from 'flashmargin';

const [N = 8, threads = 2, reps = 5] = process.argv.slice(2).map(Number);
setNumThreads(threads);
const net = nn.iresnet18();
const sgd = new optim.Sgd(net.namedParameters(), { momentum: 0.9, weightDecay: 5e-4 });
const pixels = Uint8Array.from({ length: N * 112 * 112 * 3 }, (_, i) => (i * 37) % 251);

function step() {
  const began = performance.now();
  tidy(() => {
    const features = net.forward(ops.imageToFloat(tensor(pixels, [N, 112, 112, 3])));
    backward(features, tensor(new Float32Array(features.size).fill(1e-3), features.shape));
    sgd.step(1e-3);
  });
  return performance.now() - began;
}

step();
const times = Array.from({ length: reps }, step).sort((a, b) => a - b);
const ms = times[reps >> 1];
console.log(
  JSON.stringify({
    bench: 'backbone',
    mode: 'ours',
    net: 'iresnet18',
    N,
    threads,
    reps,
    ms,
    min: times[0],
    max: times.at(-1),
    imagesPerSecond: (1000 * N) / ms,
    rssMiB: process.resourceUsage().maxRSS / 1024,
  }),
);
