// A microtask for the hot path. queueMicrotask allocates an AsyncResource and a bound function for each call, which are
// garbage a moment later; a promise's reaction costs a third of that, and runs at the same time in the same order.

const resolved = Promise.resolve();

/** Runs `task` when the current callback is over, before the event loop turns to anything else. */
export function soon(task: () => void): void {
  void resolved.then(task);
}
