// What is thrown may be anything: a model of a user's, or a library, may throw an object that no text can be made of,
// or an Error whose message is none. Whoever handles a failure must not fail by that.

/** The message of whatever was thrown. */
export function textOfThrown(thrown: unknown): string {
  try {
    return String(thrown instanceof Error ? thrown.message : thrown);
  } catch {
    return `a value that is no Error and has no text (${typeof thrown})`;
  }
}

/** The same when it is an Error with a message; else an Error that says what was thrown. */
export function toError(thrown: unknown): Error {
  try {
    if (thrown instanceof Error && typeof thrown.message === 'string') return thrown;
  } catch {
    // Its message cannot be read.
  }
  return new Error(textOfThrown(thrown));
}
