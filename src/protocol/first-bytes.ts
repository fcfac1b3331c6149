// Which protocol a client speaks, by the first bytes that it sends, where a port serves several.
//
//   HTTP/2  a fixed text, PRI * HTTP/2.0 … (RFC 9113, 3.4)      calls   MLTCP/2 and a line feed, before the first frame
//   HTTP/1  the name of a method, which begins with a letter    frames  anything else: a length
//
// A frame can begin like none of the others: with a length field of 4 bytes, a letter first means a gigabyte, more than
// `maxTellableLength`; with one of 8 bytes, more than any integer holds. One of 2 bytes does not suffice: PO may be 20559
// bytes.

import type { LengthFieldSize } from './frames.js';

export type ClientProtocol = 'http1' | 'http2' | 'calls' | 'frames';

const http2Preface = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', 'latin1');

/** What calls begin with where other protocols are spoken too. It is no part of the first frame. */
export const callsPreface = Buffer.from('MLTCP/2\n', 'latin1');

/** No more bytes than these are needed to tell. */
export const maxPrefaceBytes = http2Preface.length;

const firstLetter = 0x41;
const lastLetter = 0x5a;

/** The longest payload whose frame cannot be taken for another protocol; null: no length field of this size suffices. */
export function maxTellableLength(lengthFieldSize: LengthFieldSize): number | null {
  if (lengthFieldSize === 2) return null;
  return lengthFieldSize === 4 ? firstLetter * 0x1_00_00_00 - 1 : Number.MAX_SAFE_INTEGER;
}

/**
 * The protocol that begins with these bytes; null: more bytes are needed.
 * @param head all bytes from the beginning, at least one
 */
export function protocolFrom(head: Uint8Array): ClientProtocol | null {
  const first = head[0] ?? 0;
  if (first < firstLetter || first > lastLetter) return 'frames';
  if (isBeginning(head, http2Preface)) return head.length < http2Preface.length ? null : 'http2';
  if (isBeginning(head, callsPreface)) return head.length < callsPreface.length ? null : 'calls';
  return 'http1';
}

/** Whether one is the beginning of the other. */
function isBeginning(head: Uint8Array, preface: Uint8Array): boolean {
  const length = Math.min(head.length, preface.length);
  for (let i = 0; i < length; i++) if (head[i] !== preface[i]) return false;
  return true;
}
