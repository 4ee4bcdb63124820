/** What several commands ask of their options; commander names the option, and the command ends with exit code 2. */
import { InvalidArgumentError, Option } from 'commander';
import { deviceNames } from '../device.js';

const checked = (holds: (text: string) => boolean, wanted: string) => (text: string) => {
  if (!holds(text)) throw new InvalidArgumentError(`Expected ${wanted}.`);
  return text;
};

/** A path that is not empty. */
export const path = checked((text) => text !== '', 'a path');

/** An integer of at least 1. */
export const count = (text: string): number =>
  Number(
    checked((digits) => Number.isSafeInteger(Number(digits)) && Number(digits) >= 1, 'an integer of at least 1')(text),
  );

/** Where something is computed. */
export const deviceOption = (description: string): Option =>
  new Option('--device <device>', description).argParser(
    checked((name) => deviceNames.test(name), "'cpu', 'cuda', 'cuda:<index>' or 'auto'"),
  );
