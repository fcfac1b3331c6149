// What the HTTP connections of a worker share, and what each of them is given.

import type { Recorder } from '../../metrics/recorder.js';
import type { SharedSecret } from '../framed/shared-secret.js';
import type { CallListener, OipService } from '../oip/service.js';

export interface HttpLimits {
  /** Of a body as it travels, and of what compressed bytes become. */
  readonly maxPayloadBytes: number;
  /** Of the part of a body that is JSON. */
  readonly maxJsonBytes: number;
  /** Of the head of a request. */
  readonly maxHeaderBytes: number;
  /** Answers that may wait for a client that does not read them. */
  readonly maxWriteBufferBytes: number;
  /** Requests of one connection that are read and not answered. */
  readonly maxInFlight: number;
  /** How long a request may take to become complete. */
  readonly payloadTimeoutMs: number;
  /** How long a client may be without a request; 0: no limit. */
  readonly idleTimeoutMs: number;
  readonly writeTimeoutMs: number;
}

/** What all connections of a worker share. */
export interface HttpContext {
  readonly service: OipService;
  readonly limits: HttpLimits;
  readonly recorder: Pick<Recorder, 'count'>;
  /** What clients must show; null: nothing. */
  readonly secret: SharedSecret | null;
}

export interface HttpClientOptions {
  readonly listener: CallListener;
  /** Of the client. */
  readonly address: string;
  /** Called once, when the connection has ended. */
  onClose(): void;
}
