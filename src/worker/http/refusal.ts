// Answers that are no success: the status, and a body that says why, as {"error": "…"} with the name of the reason, which
// is a row of `clientErrors`.

import { STATUS_CODES } from 'node:http';
import { clientErrors, type RequestError } from '../../errors.js';
import type { CallFailure } from '../oip/service.js';

export interface Refusal {
  readonly status: number;
  /** Null: there is no row for it in `clientErrors`, since it concerns the path alone. */
  readonly reason: RequestError | 'PAYLOAD_TIMEOUT' | null;
  readonly message: string;
  readonly retryAfterMs?: number;
  /** Further headers, names and values in turns. */
  readonly headers?: readonly string[];
}

export function refusalOf({ reason, message, retryAfterMs }: CallFailure): Refusal {
  const { http: status } = clientErrors[reason];
  const headers = status === 401 ? ['WWW-Authenticate', 'Bearer'] : [];
  return { status, reason, message, retryAfterMs, headers };
}

export const malformed = (status: number, message: string, headers: readonly string[] = []): Refusal => ({
  status,
  reason: 'MALFORMED',
  message,
  headers,
});

/** The headers, names and values in turns, and the body. */
export function refusalParts({ status, reason, message, retryAfterMs = 0, headers = [] }: Refusal): {
  readonly headers: string[];
  readonly body: Buffer;
} {
  const members = {
    error: message,
    ...(reason === null ? {} : { reason }),
    ...(retryAfterMs > 0 ? { retry_after_ms: Math.ceil(retryAfterMs) } : {}),
  };
  const body = Buffer.from(JSON.stringify(members));
  const all = ['Content-Type', 'application/json', 'Content-Length', String(body.length), ...headers];
  if (status === 503 || status === 429 || retryAfterMs > 0)
    all.push('Retry-After', String(Math.max(1, Math.ceil(retryAfterMs / 1000))));
  if (retryAfterMs > 0) all.push('retry-after-ms', String(Math.ceil(retryAfterMs)));
  return { headers: all, body };
}

/** A whole answer, after which the connection closes: for a client that has no request yet, or a broken one. */
export function rawRefusal(refusal: Refusal): Buffer {
  const { headers, body } = refusalParts(refusal);
  const lines = [`HTTP/1.1 ${refusal.status} ${STATUS_CODES[refusal.status] ?? ''}`, 'Connection: close'];
  for (let i = 0; i < headers.length; i += 2) lines.push(`${headers[i]}: ${headers[i + 1]}`);
  return Buffer.concat([Buffer.from(`${lines.join('\r\n')}\r\n\r\n`, 'latin1'), body]);
}
