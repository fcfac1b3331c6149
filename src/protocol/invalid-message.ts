// What a decoder throws, and nothing else, whatever the bytes are.

/** Longer texts of a client are cut in messages. */
const maxQuoted = 64;

/** A text of a client for a message: quoted, on one line, and never long. */
export function quoted(text: string): string {
  return JSON.stringify(text.length > maxQuoted ? `${text.slice(0, maxQuoted)}…` : text);
}

/** Bytes that are not the message that they should be. The text says what was expected, what came, and where. */
export class InvalidMessage extends Error {
  override readonly name = 'InvalidMessage';
}
