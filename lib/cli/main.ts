#!/usr/bin/env node
/** The command line: data on stdout, talk on stderr, exit codes that mean something (1 an error, 2 usage, above 128 a signal). */
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { Command, CommanderError } from 'commander';
import { packageRoot } from '../binding.js';
import { FlashmarginError } from '../errors.js';
import { buildCommand } from './build.js';
import { conformanceCommand } from './conformance.js';
import { doctorCommand } from './doctor.js';
import { evalCommand } from './evaluate.js';
import { inspectCommand } from './inspect.js';
import { Interrupted, outputUnread } from './interrupt.js';
import { reportCommand } from './report.js';
import { trainCommand } from './train.js';

const { version, description } = JSON.parse(readFileSync(path.join(packageRoot, 'package.json'), 'utf8')) as {
  version: string;
  description: string;
};

const program = new Command('flashmargin')
  .description(description)
  .version(version)
  .exitOverride()
  .showSuggestionAfterError()
  .showHelpAfterError('(add --help for the options)');
for (const command of [
  trainCommand,
  evalCommand,
  inspectCommand,
  reportCommand,
  doctorCommand,
  conformanceCommand,
  buildCommand,
])
  program.addCommand(command().copyInheritedSettings(program));

// Whoever read the output has gone, as `head` does: a training saves and stops, all else ends.
let unread = false;
for (const stream of [process.stdout, process.stderr])
  stream.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code !== 'EPIPE') throw error;
    if (!unread && !outputUnread()) process.exit(141);
    unread = true;
  });

process.exitCode = 1; // until the command has come to its end: whatever ends the process before that is a failure
program
  .parseAsync()
  .then(() => {
    process.exitCode = 0;
  })
  .catch((error: unknown) => {
    if (error instanceof CommanderError) process.exit(error.exitCode === 0 ? 0 : 2);
    if (error instanceof Interrupted) {
      process.stderr.write(`${error.message}\n`);
      process.exit(error.exitCode);
    }
    const { code, message, stack } = error as NodeJS.ErrnoException;
    // Of the system: no permission, no such file, no space.
    const plain = error instanceof FlashmarginError || /^E[A-Z0-9]+$/.test(code ?? '');
    process.stderr.write(
      plain ? `flashmargin: ${message}\n` : `flashmargin: unexpected error\n${stack ?? String(error)}\n`,
    );
    process.exit(1);
  });
