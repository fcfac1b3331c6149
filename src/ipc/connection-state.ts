// The state that migrates with a connection from one worker to another, besides its handle, and its encoding.
//
// Times are sent by a clock that all processes of the machine share, because each process counts its own time from its
// start. The encoded state has a type of its own, so that the two cannot be confused, and what arrives is checked
// before it is used: a time that is not a number would never be over.

/** Times are milliseconds of this process's monotonic clock. */
export interface ConnectionState {
  /** Bytes from the client that have not become requests yet. */
  readonly unread: Buffer;
  /** Replies that the kernel has not taken yet. */
  readonly unsent: Buffer;
  /** When the last of the unread bytes came. */
  readonly arrivedAt: number;
  /** When the incomplete frame began; 0 when there is none. */
  readonly frameBegunAt: number;
  readonly activeAt: number;
  /** Whether the client has sent the shared secret, or need not. */
  readonly isTrusted: boolean;
}

/** The state as it is sent; only `decodeConnectionState` reads it. */
export interface EncodedConnectionState {
  readonly unread: Uint8Array;
  readonly unsent: Uint8Array;
  /** Milliseconds of the machine's clock: arrivedAt, frameBegunAt (0: none), activeAt. */
  readonly times: readonly [number, number, number];
  readonly isTrusted: boolean;
}

/** Offset to the clock that all processes of a machine share: hrtime counts from the same moment in each. */
const machineOffsetMs = Number(process.hrtime.bigint()) / 1e6 - performance.now();

/** @param offsetMs from this process's clock to that of the machine */
export function encodeConnectionState(state: ConnectionState, offsetMs = machineOffsetMs): EncodedConnectionState {
  const { unread, unsent, arrivedAt, frameBegunAt, activeAt, isTrusted } = state;
  const frameBegun = frameBegunAt === 0 ? 0 : frameBegunAt + offsetMs;
  return { unread, unsent, times: [arrivedAt + offsetMs, frameBegun, activeAt + offsetMs], isTrusted };
}

/** Throws Error when `encoded` is not the state of a connection. */
export function decodeConnectionState(encoded: unknown, offsetMs = machineOffsetMs): ConnectionState {
  if (!isEncoded(encoded)) throw new Error('what came with a connection is not the state of one');
  const [arrivedAt, frameBegunAt, activeAt] = encoded.times;
  return {
    unread: bufferOn(encoded.unread),
    unsent: bufferOn(encoded.unsent),
    arrivedAt: arrivedAt - offsetMs,
    frameBegunAt: frameBegunAt === 0 ? 0 : frameBegunAt - offsetMs,
    activeAt: activeAt - offsetMs,
    isTrusted: encoded.isTrusted,
  };
}

function isEncoded(value: unknown): value is EncodedConnectionState {
  const { unread, unsent, times, isTrusted } = (value ?? {}) as Partial<Record<keyof EncodedConnectionState, unknown>>;
  return (
    unread instanceof Uint8Array &&
    unsent instanceof Uint8Array &&
    Array.isArray(times) &&
    times.length === 3 &&
    times.every(Number.isFinite) &&
    typeof isTrusted === 'boolean'
  );
}

/** A buffer on the same memory: nothing is copied. */
function bufferOn({ buffer, byteOffset, byteLength }: Uint8Array): Buffer {
  return Buffer.from(buffer, byteOffset, byteLength);
}
