import { defineConfig } from 'tsdown';

// Both module systems share one native handle: the addon is loaded by path, once a process.
export default defineConfig({
  entry: {
    index: 'lib/index.ts',
    'cli/main': 'lib/cli/main.ts',
    'data/decodeWorker': 'lib/data/decodeWorker.ts',
  },
  format: ['esm', 'cjs'],
  platform: 'node',
  target: 'node20',
  dts: true,
  shims: true,
  clean: true,
});
