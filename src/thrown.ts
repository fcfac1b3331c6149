// A thrown value may be anything: a user's model, or a library, may throw an object that cannot be converted to text,
// or an Error whose message is not text. Code that handles a failure must not fail because of that.

/** The message of a thrown value. */
export function textOfThrown(thrown: unknown): string {
  try {
    return String(thrown instanceof Error ? thrown.message : thrown);
  } catch {
    return `a value that is no Error and has no text (${typeof thrown})`;
  }
}

/** The thrown value itself when it is an Error with a message; else an Error that describes it. */
export function toError(thrown: unknown): Error {
  try {
    if (thrown instanceof Error && typeof thrown.message === 'string') return thrown;
  } catch {
    // Its message cannot be read.
  }
  return new Error(textOfThrown(thrown));
}
