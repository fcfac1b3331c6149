// Sends requests at a fixed rate, whatever comes back: each is sent when it is due, never before, and one that is sent
// late (this process was busy) still counts from when it was due. A closed loop waits for a slow server and so sends it
// less just when it is slow (coordinated omission); this one does not.

/** Time as the loop sees it; tests supply their own clock. */
export interface Clock {
  /** Milliseconds of a monotonic clock. */
  now(): number;
  /** Lets the event loop turn once. */
  turn(): Promise<void>;
  /** Sleeps for about so many milliseconds. */
  sleep(ms: number): Promise<void>;
}

export const realClock: Clock = {
  now: () => performance.now(),
  turn: () => new Promise((resolve) => setImmediate(resolve)),
  sleep: (ms) => new Promise((resolve) => setTimeout(resolve, ms)),
};

export interface OpenLoop {
  readonly requests: number;
  readonly ratePerSecond: number;
  readonly clock: Clock;
  /** Sends request `i` without waiting for its reply; false: nothing more can be sent. */
  send(i: number, dueAt: number): boolean;
}

/** Node's timers are a millisecond or two late, or one early: the last stretch is spent turning the event loop. */
const timerSlackMs = 3;
/** How many requests are sent in a row before replies are read, when the loop is behind. */
const maxBurst = 64;

/** Resolves when the last request has been sent. */
export async function runOpenLoop({ requests, ratePerSecond, clock, send }: OpenLoop): Promise<void> {
  const startedAt = clock.now();
  let burst = 0;
  for (let i = 0; i < requests; ) {
    const dueAt = startedAt + (i * 1000) / ratePerSecond;
    const waitMs = dueAt - clock.now();
    if (waitMs > 0 || burst === maxBurst) {
      burst = 0;
      await (waitMs > timerSlackMs ? clock.sleep(waitMs - timerSlackMs) : clock.turn());
      continue;
    }
    if (!send(i, dueAt)) return;
    burst++;
    i++;
  }
}
