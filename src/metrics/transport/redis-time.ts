/**
 * Rejects when the promise takes longer. What has arrived by then is read first: a process that stood still for a
 * while must not take its own delay for that of Redis.
 */
export function inTime<T>(promise: Promise<T>, limitMs: number): Promise<T> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => {
      setImmediate(() => reject(new Error(`no answer within ${limitMs} ms`)));
    }, limitMs);
    promise.then(resolve, reject).finally(() => clearTimeout(timer));
  });
}

/** 100 ms doubling up to 2 s, each cut by up to half at random, so that a thousand workers do not come back at once. */
export const backOffMs = (attempt: number): number =>
  Math.min(50 * 2 ** Math.min(attempt, 6), 2000) * (0.5 + Math.random() / 2);
