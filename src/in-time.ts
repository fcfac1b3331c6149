/**
 * Rejects when the promise takes longer than `limitMs`. What has arrived by then is read first: a process that stood
 * still for a while must not mistake its own delay for that of another.
 * @param late makes the error that it rejects with
 */
export function inTime<T>(
  promise: Promise<T>,
  limitMs: number,
  late: () => Error = () => new Error(`no answer within ${limitMs} ms`),
): Promise<T> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => {
      setImmediate(() => reject(late()));
    }, limitMs);
    promise.then(resolve, reject).finally(() => clearTimeout(timer));
  });
}
