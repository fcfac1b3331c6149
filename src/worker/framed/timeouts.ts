// The time that a client has for each thing that it must do. The reply writer checks that the client takes its replies.

import type { WorkerCounter } from '../../metrics/recorder.js';

export interface TimeoutLimits {
  /** How long a frame may take to become complete, and the shared secret from the beginning of the connection. */
  readonly payloadTimeoutMs: number;
  /** How long a client may be without a request; 0: no limit. */
  readonly idleTimeoutMs: number;
}

/** What the time limits depend on; times are those of the monotonic clock. */
export interface TimeoutSubject {
  readonly openedAt: number;
  /** When it last read or answered something. */
  readonly activeAt: number;
  /** When the incomplete frame began; 0 when there is none. */
  readonly frameBegunAt: number;
  /** Whether the client has sent the shared secret, or need not. */
  readonly isTrusted: boolean;
  /** Whether reading is paused: what the client sends cannot come then. */
  readonly isPaused: boolean;
  readonly inFlight: number;
}

/** Which time limit has passed, as the name of its counter; null: none. */
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
