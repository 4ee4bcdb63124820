/** The exit code of a program that needs what is not here. */
export const UNAVAILABLE = 77;

/** What a build or a GPU is without, in the library's words; whatever else goes wrong is a failure. */
const lacking = [
  / is not available on cuda/,
  /multiplies no bfloat16/,
  /training runs on the CPU/,
  /expected FLASHMARGIN_CUDA_HEAD to be one of/,
  /FLASHMARGIN_CUDA_HEAD=\w+ does not suit: (?!on a small case)/,
];

/** Says so and ends the process where an error is one of these. */
export function unavailable({ message }) {
  if (!lacking.some((pattern) => pattern.test(message))) return;
  console.log(`not available: ${message.split('\n')[0]}`);
  process.exit(UNAVAILABLE);
}
