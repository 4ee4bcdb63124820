import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    pool: 'forks', // a crash in native code ends one file's process, not the runner
    maxWorkers: 2,
    testTimeout: 60_000,
  },
});
