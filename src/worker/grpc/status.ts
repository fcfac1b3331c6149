// How a call ends, as trailers: https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md

import { clientErrors } from '../../errors.js';
import { statusCodes } from '../../protocol/status-codes.js';
import type { CallFailure } from '../oip/service.js';
import type { CallStatus } from './transport.js';

export const ok: CallStatus = { code: statusCodes.OK, message: '', reason: null, retryAfterMs: 0 };

export const failed = (code: keyof typeof statusCodes, message: string): CallStatus => ({
  code: statusCodes[code],
  message,
  reason: null,
  retryAfterMs: 0,
});

export const statusOf = ({ reason, message, retryAfterMs }: CallFailure): CallStatus => ({
  code: statusCodes[clientErrors[reason].grpc],
  message,
  reason,
  retryAfterMs,
});

/** Longer messages are cut: clients take 8 KiB of headers, and every byte may become three. */
const maxMessage = 1024;

/** The trailers that say so. */
export function trailersOf({ code, message, reason, retryAfterMs }: CallStatus): Record<string, string> {
  const trailers: Record<string, string> = { 'grpc-status': String(code) };
  if (message !== '') trailers['grpc-message'] = percentEncoded(message);
  if (reason !== null) trailers['mltcp-reason'] = reason;
  if (retryAfterMs > 0) trailers['grpc-retry-pushback-ms'] = String(Math.ceil(retryAfterMs));
  return trailers;
}

/** As grpc-message has it: printable ASCII but `%` as it is, every other byte of the UTF-8 text as %XX. */
export function percentEncoded(message: string): string {
  const text = message.length > maxMessage ? `${message.slice(0, maxMessage)}…` : message;
  if (/^[ -$&-~]*$/.test(text)) return text;
  let encoded = '';
  for (const byte of Buffer.from(text))
    encoded +=
      byte >= 0x20 && byte <= 0x7e && byte !== 0x25
        ? String.fromCharCode(byte)
        : `%${byte.toString(16).toUpperCase().padStart(2, '0')}`;
  return encoded;
}
