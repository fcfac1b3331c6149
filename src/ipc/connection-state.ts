// What moves with a connection from one worker to another, beside its handle, and how it travels.
//
// Times travel by a clock that all processes of the machine share: each process counts its own from its start. The type
// of what travels is another than that of what a connection has, so that the one cannot be taken for the other, and
// what arrives is looked at before it is believed: a time that is none would never be over.

/** Times are milliseconds of this process's monotonic clock. */
export interface ConnectionState {
  /** Bytes of the client that no request was made of yet. */
  readonly unread: Buffer;
  /** Replies that the kernel has not taken yet. */
  readonly unsent: Buffer;
  /** When the last of the unread bytes came. */
  readonly arrivedAt: number;
  /** When the frame that is not whole yet was begun; 0 when there is none. */
  readonly frameBegunAt: number;
  readonly activeAt: number;
  /** Whether it has shown the shared secret, or need not. */
  readonly isTrusted: boolean;
}

/** As it travels; only `decodeConnectionState` looks inside. */
export interface EncodedConnectionState {
  readonly unread: Uint8Array;
  readonly unsent: Uint8Array;
  /** Milliseconds of the machine's clock: arrivedAt, frameBegunAt (0: none), activeAt. */
  readonly times: readonly [number, number, number];
  readonly isTrusted: boolean;
}

/** What all processes of a machine have in common: hrtime counts from the same moment in each. */
const machineOffsetMs = Number(process.hrtime.bigint()) / 1e6 - performance.now();

/** @param offsetMs from this process's clock to that of the machine */
export function encodeConnectionState(state: ConnectionState, offsetMs = machineOffsetMs): EncodedConnectionState {
  const { unread, unsent, arrivedAt, frameBegunAt, activeAt, isTrusted } = state;
  const frameBegun = frameBegunAt === 0 ? 0 : frameBegunAt + offsetMs;
  return { unread, unsent, times: [arrivedAt + offsetMs, frameBegun, activeAt + offsetMs], isTrusted };
}

/** Throws Error when it is no state of a connection. */
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

/** The same memory: nothing is copied. */
function bufferOn({ buffer, byteOffset, byteLength }: Uint8Array): Buffer {
  return Buffer.from(buffer, byteOffset, byteLength);
}
