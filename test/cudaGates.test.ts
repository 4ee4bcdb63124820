// What the gates of the CUDA kernels read: ptxas's report, and the machine code in an ELF file.
import { describe, expect, test } from 'vitest';
// @ts-expect-error a script without types
import { countOperations, parseKernels, violations, wrongOperations } from '../scripts/cuda-gates.mjs';

/** An ELF file with these sections, and the table of their names last. */
function elf(sections: { name: string; opcodes: number[] }[]): Buffer {
  const names = ['', ...sections.map(({ name }) => name), '.shstrtab'];
  const table = Buffer.from(names.map((name) => `${name}\0`).join(''), 'latin1');
  const offsets = names.map((_, i) => names.slice(0, i).reduce((sum, name) => sum + name.length + 1, 0));
  const bodies = [
    Buffer.alloc(0),
    ...sections.map(({ opcodes }) => {
      const code = Buffer.alloc(16 * opcodes.length);
      for (const [i, opcode] of opcodes.entries()) code.writeUInt16LE(opcode, 16 * i);
      return code;
    }),
    table,
  ];
  const header = Buffer.alloc(64);
  header.writeUInt16LE(64, 58);
  header.writeUInt16LE(bodies.length, 60);
  header.writeUInt16LE(bodies.length - 1, 62);
  const headers = Buffer.alloc(64 * bodies.length);
  let at = 64;
  for (const [i, body] of bodies.entries()) {
    headers.writeUInt32LE(offsets[i] as number, 64 * i);
    headers.writeBigUInt64LE(BigInt(at), 64 * i + 24);
    headers.writeBigUInt64LE(BigInt(body.length), 64 * i + 32);
    at += body.length;
  }
  header.writeBigUInt64LE(BigInt(at), 40);
  return Buffer.concat([header, ...bodies, headers]);
}

const hgmma = 0x9f0;
const utmaldg = 0x5b4;
const ldl = 0x983;
const ffma = 0x223;

describe('instructions', () => {
  test('are counted by kernel', () => {
    const cubin = elf([
      { name: '.text.forward', opcodes: [hgmma, ffma, hgmma, utmaldg] },
      { name: '.nv.info.forward', opcodes: [ldl] },
      { name: '.text.other', opcodes: [ffma] },
    ]);
    expect(countOperations(cubin)).toEqual([
      { name: 'forward', counts: { HGMMA: 2, UTMALDG: 1 } },
      { name: 'other', counts: {} },
    ]);
  });

  test('that are missing or must not be there are named', () => {
    const wrong = (name: string, counts: object) => wrongOperations({ name, counts }, 90);
    expect(wrong('6hopper14forward', { HGMMA: 8, UTMALDG: 2 })).toEqual([]);
    expect(wrong('6hopper14forward', { HGMMA: 8, LDL: 3 })).toEqual([
      '6hopper14forward for sm_90 has no UTMALDG',
      '6hopper14forward for sm_90 has 3 LDL',
    ]);
    expect(wrong('6hopper14forward', { HGMMA: 8, UTMALDG: 2, ERRBAR: 20 })).toEqual([
      '6hopper14forward for sm_90 has 20 ERRBAR, at most 16',
    ]);
    expect(wrong('6hopper10ScoresWork', { HGMMA: 4, UTMALDG: 2 })).toEqual([
      '6hopper10ScoresWork for sm_90 has no UTMASTG',
    ]);
    expect(wrong('tensor_sweep', {})).toEqual(['tensor_sweep for sm_90 has no HMMA']);
  });
});

test('a kernel that spills is named', () => {
  const [kernel] = parseKernels(
    [
      "ptxas info    : Compiling entry function 'hopper_forward' for 'sm_90a'",
      '    16 bytes stack frame, 12 bytes spill stores, 8 bytes spill loads',
      'ptxas info    : Used 168 registers, used 16 barriers, 16 bytes cumulative stack size',
    ].join('\n'),
  );
  expect(kernel).toMatchObject({ architecture: 'sm_90a', registers: 168, stackBytes: 16, spillBytes: 20 });
  expect(violations(kernel)).toEqual([
    'hopper_forward for sm_90a: stackBytes 16, at most 0',
    'hopper_forward for sm_90a: spillBytes 20, at most 0',
  ]);
});
