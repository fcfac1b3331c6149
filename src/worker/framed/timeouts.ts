// The time that a client has for each thing that it must do. That it takes its replies is for the reply writer to know.

import type { WorkerCounter } from '../../metrics/recorder.js';

export interface TimeoutLimits {
  /** For a frame to become whole; and, from the beginning of the connection, for the shared secret. */
  readonly payloadTimeoutMs: number;
  /** Without a request; 0: none. */
  readonly idleTimeoutMs: number;
}

/** What they go by; times are those of the monotonic clock. */
export interface TimeoutSubject {
  readonly openedAt: number;
  /** When it last read something or answered something. */
  readonly activeAt: number;
  /** When the frame that is not whole yet was begun; 0 when there is none. */
  readonly frameBegunAt: number;
  /** Whether it has shown the shared secret, or need not. */
  readonly isTrusted: boolean;
  /** Whether it is not read from: what it sends then cannot come. */
  readonly isPaused: boolean;
  readonly inFlight: number;
}

/** Which time has run out, by the name of its counter; null: none. */
export function timeoutOf(
  { openedAt, activeAt, frameBegunAt, isTrusted, isPaused, inFlight }: TimeoutSubject,
  limits: TimeoutLimits,
  now: number,
): Extract<WorkerCounter, 'closedBySecret' | 'closedByPayloadTimeout' | 'closedByIdleTimeout'> | null {
  const { payloadTimeoutMs, idleTimeoutMs } = limits;
  if (!isTrusted && now - openedAt >= payloadTimeoutMs) return 'closedBySecret';
  if (!isPaused && isFrameOverdue(frameBegunAt, limits, now)) return 'closedByPayloadTimeout';
  const isIdle = frameBegunAt === 0 && inFlight === 0;
  return idleTimeoutMs > 0 && isIdle && now - activeAt >= idleTimeoutMs ? 'closedByIdleTimeout' : null;
}

export function isFrameOverdue(frameBegunAt: number, { payloadTimeoutMs }: TimeoutLimits, now: number): boolean {
  return frameBegunAt > 0 && now - frameBegunAt >= payloadTimeoutMs;
}
