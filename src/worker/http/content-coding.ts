// Compression of bodies, both ways, in threads of libuv: none of it runs on the event loop.

import { promisify } from 'node:util';
import { constants, deflate, gunzip, gzip, inflate } from 'node:zlib';

export type Coding = 'gzip' | 'deflate';

const decoders = { gzip: promisify(gunzip), deflate: promisify(inflate) };
const encoders = { gzip: promisify(gzip), deflate: promisify(deflate) };
/** Tensors of floats become hardly smaller by more effort. */
const level = constants.Z_BEST_SPEED;

/** Of a header Content-Encoding; null: the body is not compressed; undefined: in a way that is not known here. */
export function codingOf(header: string | undefined): Coding | null | undefined {
  switch (header?.trim().toLowerCase()) {
    case undefined:
    case '':
    case 'identity':
      return null;
    case 'gzip':
    case 'x-gzip':
      return 'gzip';
    case 'deflate':
      return 'deflate';
    default:
      return undefined;
  }
}

/** Which of them a header Accept-Encoding takes; null: none. */
export function acceptedCoding(header: string | undefined): Coding | null {
  if (header === undefined) return null;
  const accepted = header
    .toLowerCase()
    .split(',', 16)
    .map((item) => /^\s*([^\s;]+)\s*(?:;\s*q\s*=\s*([\d.]+))?/.exec(item))
    .filter((item) => item !== null && Number(item[2] ?? 1) > 0)
    .map((item) => item?.[1]);
  if (accepted.includes('gzip') || accepted.includes('x-gzip')) return 'gzip';
  return accepted.includes('deflate') ? 'deflate' : null;
}

/**
 * Rejects when the bytes are not what the coding says.
 * @returns null when there are more than `maxBytes`; no more than these are made
 */
export async function decompress(coding: Coding, bytes: Buffer, maxBytes: number): Promise<Buffer | null> {
  try {
    return await decoders[coding](bytes, { maxOutputLength: Math.max(1, maxBytes) });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ERR_BUFFER_TOO_LARGE') return null;
    throw error;
  }
}

export const compress = (coding: Coding, bytes: Buffer): Promise<Buffer> => encoders[coding](bytes, { level });
