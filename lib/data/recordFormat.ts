// RecordIO as dmlc-core and MXNet write it. A record is
//   uint32 magic; uint32 (cflag << 29 | length); payload[length]; zeros to a multiple of 4,
// little-endian. Where the payload holds the magic at a multiple of 4 from the payload's start, the writer splits
// the record there and drops those four bytes: cflag 1 = first part, 2 = middle, 3 = last; 0 = not split.
// A payload opens with MXNet's IRHeader: uint32 flag, float32 label, uint64 id, uint64 id2; flag > 0 announces
// that many float32 labels after it. The rest is the encoded image.

export const RECORD_MAGIC = 0xced7230a;
/** Of the format before 2015, whose length field has 30 bits. */
export const OLD_RECORD_MAGIC = 0x3ed7230a;
export const MAX_PART_LENGTH = 2 ** 29 - 1;
export const PART_HEADER_BYTES = 8;
export const IMAGE_HEADER_BYTES = 24;

export const PartFlag = { whole: 0, first: 1, middle: 2, last: 3 } as const;

/** float32 holds every integer up to here; above, labels and ranges may have been rounded. */
export const FLOAT32_EXACT = 2 ** 24;

export const padTo4 = (length: number): number => (length + 3) & ~3;

/** MXNet's image record header, and the encoded image behind it. */
export interface ImageRecord {
  /** Number of labels in the array form; 0 = the scalar form. */
  readonly flag: number;
  /** One value in the scalar form, `flag` values in the array form. */
  readonly labels: readonly number[];
  readonly id: bigint;
  readonly id2: bigint;
  /** Encoded image; empty in records that hold only ranges. */
  readonly body: Uint8Array;
}
