// What a client is told whose connection is refused before anything was read from it.

import type { ListenerProtocol } from '../config/listener-protocols.js';
import { clientErrors, type RequestError } from '../errors.js';
import type { Decision } from '../ipc/messages.js';
import { emptyFrame, type LengthFieldSize } from '../protocol/frames.js';
import { farewell } from './calls/dialect.js';
import { rawRefusal, refusalOf } from './http/refusal.js';

const reasons = {
  refusedByLimit: 'TOO_MANY_CONNECTIONS',
  refusedByAddressLimit: 'TOO_MANY_CONNECTIONS_OF_CLIENT',
  refusedByRate: 'CONNECTING_TOO_FAST',
} as const satisfies Readonly<Record<Exclude<Decision, 'granted'>, RequestError>>;

/** When a refused client may try again. */
const retryAfterMs = 1000;

/**
 * As a client of this listener understands it. Clients of gRPC, of which nothing has come yet that tells them apart from
 * those of HTTP/1.1, see that this is no HTTP/2, and that the server is not available.
 */
export function refusalIn(
  protocol: ListenerProtocol,
  decision: Exclude<Decision, 'granted'>,
  lengthFieldSize: LengthFieldSize,
): Buffer {
  const reason = reasons[decision];
  switch (protocol) {
    case 'frames':
    case 'auto':
      return emptyFrame(lengthFieldSize);
    case 'calls':
      return farewell(reason, lengthFieldSize);
    case 'open':
      return rawRefusal(refusalOf({ reason, message: clientErrors[reason].meaning, retryAfterMs }));
  }
}
