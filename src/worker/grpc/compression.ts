// Compressed messages. What is short is done at once; the rest is done by Node's thread pool. A message may not grow
// beyond the limit of messages when it is unpacked.

import {
  deflate,
  deflateSync,
  gunzip,
  gunzipSync,
  gzip,
  gzipSync,
  inflate,
  inflateSync,
  type ZlibOptions,
} from 'node:zlib';

export type Encoding = 'gzip' | 'deflate';

/** As grpc-accept-encoding has it. */
export const acceptedEncodings = 'identity,gzip,deflate';
/** Messages below this are sent as they are: they would hardly become shorter. */
export const worthCompressing = 1024;
/** Up to this, a message is done at once: in some 50 µs. */
const shortBytes = 4096;
const shortUnpackedBytes = 65_536;

export const isEncoding = (name: string): name is Encoding => name === 'gzip' || name === 'deflate';

/** Whether a client takes messages like this. @param header grpc-accept-encoding */
export const accepts = (header: string | undefined, encoding: Encoding): boolean =>
  header?.split(',').some((name) => name.trim() === encoding) ?? false;

const packers = {
  gzip: { now: gzipSync, later: gzip },
  deflate: { now: deflateSync, later: deflate },
} as const;
const unpackers = {
  gzip: { now: gunzipSync, later: gunzip },
  deflate: { now: inflateSync, later: inflate },
} as const;

/** @param done called at once, or later, with null when it cannot be unpacked, or has more than `maxBytes` */
export function unpack(
  encoding: Encoding,
  message: Buffer,
  maxBytes: number,
  done: (message: Buffer | null, isTooLarge: boolean) => void,
): void {
  const { now, later } = unpackers[encoding];
  if (message.length <= shortBytes) {
    const unpacked = unpackedNow(now, message, Math.min(maxBytes, shortUnpackedBytes));
    if (unpacked !== 'too-large') {
      done(unpacked, false);
      return;
    }
  }
  // It needs a copy: the memory of what is short is used again, and the thread reads later.
  later(Buffer.from(message), { maxOutputLength: Math.max(1, maxBytes) }, (error, unpacked) =>
    done(error === null ? unpacked : null, isTooLarge(error)),
  );
}

/** @param done called at once, or later; null: it stays as it is */
export function pack(encoding: Encoding, message: Buffer, done: (packed: Buffer | null) => void): void {
  const options: ZlibOptions = { level: 1 };
  const { now, later } = packers[encoding];
  if (message.length <= shortBytes) done(now(message, options));
  else later(message, options, (error, packed) => done(error === null ? packed : null));
}

function unpackedNow(now: typeof gunzipSync, message: Buffer, maxOutputLength: number): Buffer | 'too-large' | null {
  try {
    return now(message, { maxOutputLength: Math.max(1, maxOutputLength) });
  } catch (error) {
    return isTooLarge(error) ? 'too-large' : null;
  }
}

const isTooLarge = (error: unknown): boolean =>
  error instanceof Error && (error as NodeJS.ErrnoException).code === 'ERR_BUFFER_TOO_LARGE';
