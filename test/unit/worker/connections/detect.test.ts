import { Duplex } from 'node:stream';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { expect } from 'chai';
import fc from 'fast-check';
import type { ConnectionState } from '#src/ipc/connection-state.js';
import { Recorder } from '#src/metrics/recorder.js';
import { type ClientProtocol, maxTellableLength, protocolFrom } from '#src/protocol/first-bytes.js';
import { encodeFrame } from '#src/protocol/frames.js';
import { Detection, type DetectionOptions } from '#src/worker/connections/detect.js';
import { lingerMs } from '#src/worker/connections/lingering-close.js';
import { withClock } from '../../../support/clock.js';

const http2Preface = 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n';
const callsPreface = 'MLTCP/2\n';

/** The server's end of a connection. Like a socket on a handle, it shows what was read in memory that it uses again. */
class Wire extends Duplex {
  readonly #memory = Buffer.alloc(1 << 16);
  isEnded = false;

  constructor() {
    super({ allowHalfOpen: true });
  }

  override _read(): void {}

  override _write(_chunk: Buffer, _encoding: string, done: () => void): void {
    done();
  }

  override _final(done: () => void): void {
    this.isEnded = true;
    done();
  }

  deliver(bytes: Uint8Array): void {
    this.#memory.set(bytes);
    this.emit('data', this.#memory.subarray(0, bytes.length));
    this.#memory.fill(0xff);
  }
}

function detecting(
  changes: Partial<DetectionOptions> & { readonly alpnProtocol?: string | false } = {},
  moved: ConnectionState | null = null,
) {
  const { alpnProtocol, ...options } = changes;
  const wire = Object.assign(new Wire(), alpnProtocol === undefined ? {} : { alpnProtocol });
  const recorder = new Recorder([]);
  const closed: boolean[] = [];
  const decided: ClientProtocol[] = [];
  const received: Buffer[] = [];
  const all: DetectionOptions = {
    takesFrames: true,
    hasSecret: false,
    limits: { payloadTimeoutMs: 1000, idleTimeoutMs: 0 },
    recorder,
    onDecided: (protocol) => {
      decided.push(protocol);
      expect(wire.isPaused()).to.equal(true);
      for (const event of ['data', 'end', 'error'])
        expect(wire.listenerCount(event), `listeners of ${event}`).to.equal(0);
      wire.on('data', (chunk: Buffer) => received.push(Buffer.from(chunk)));
      wire.resume();
    },
    onClose: (hasMigrated) => closed.push(hasMigrated),
    ...options,
  };
  const detection = new Detection(wire, all, moved);
  detection.start();
  return {
    detection,
    wire,
    decided,
    received: () => Buffer.concat(received),
    counts: () => recorder.snapshot(),
    closed: () => closed,
    /** Delivers the parts, each in a turn of its own. */
    send: async (...parts: readonly (string | Uint8Array)[]): Promise<void> => {
      for (const part of parts) {
        wire.deliver(typeof part === 'string' ? Buffer.from(part, 'latin1') : part);
        await nextTurn();
      }
    },
  };
}

/** The beginnings of what clients send, and bytes of any kind. */
const beginnings = fc
  .oneof(
    fc.constantFrom(
      'GET / HTTP/1.1\r\n',
      'POST /v2/models/m/infer HTTP/1.1\r\n',
      'PROPFIND /',
      'MKCOL /',
      'PRI * HTTP/1.1',
    ),
    fc.constantFrom(http2Preface, callsPreface, `${callsPreface}${http2Preface}`),
    fc
      .tuple(fc.constantFrom(http2Preface, callsPreface), fc.nat(30), fc.string())
      .map(([preface, length, rest]) => `${preface.slice(0, length)}${rest}`),
    fc.uint8Array({ minLength: 1, maxLength: 64 }).map((bytes) => Buffer.from(bytes).toString('latin1')),
  )
  .map((text) => Buffer.from(text, 'latin1'))
  .filter((bytes) => bytes.length > 0);

describe('the protocol that a client speaks', () => {
  it('is told by its first bytes', () => {
    const cases: readonly (readonly [string, ClientProtocol | null])[] = [
      ['G', 'http1'],
      ['POST /v2', 'http1'],
      ['DELETE', 'http1'],
      ['P', null],
      ['PU', 'http1'],
      ['PRI * HTTP/2', null],
      ['PRI * HTTP/1', 'http1'],
      [http2Preface.slice(0, -1), null],
      [http2Preface, 'http2'],
      [`${http2Preface}more`, 'http2'],
      ['M', null],
      ['MERGE', 'http1'],
      ['MLTCP/2', null],
      [callsPreface, 'calls'],
      ['MLTCP/3\n', 'http1'],
      ['\0', 'frames'],
      ['\x16\x03\x01', 'frames'],
      ['get /', 'frames'],
    ];
    for (const [text, expected] of cases)
      expect(protocolFrom(Buffer.from(text, 'latin1')), JSON.stringify(text)).to.equal(expected);
  });

  it('does not change when more bytes come', () => {
    fc.assert(
      fc.property(beginnings, (bytes) => {
        let decided: ClientProtocol | null = null;
        for (let length = 1; length <= bytes.length; length++) {
          const now = protocolFrom(bytes.subarray(0, length));
          if (decided !== null) expect(now).to.equal(decided);
          decided = now;
        }
      }),
    );
  });

  it('is frames for every frame that may be as long as config lets it be', () => {
    expect(maxTellableLength(2)).to.equal(null);
    for (const size of [4, 8] as const) {
      const limit = maxTellableLength(size) as number;
      const lengths = fc.oneof(fc.nat(5000), fc.integer({ min: 0, max: limit }), fc.constant(limit));
      fc.assert(
        fc.property(lengths, (length) => {
          const frame = encodeFrame(Buffer.alloc(0), size);
          if (size === 8) frame.writeBigUInt64BE(BigInt(length));
          else frame.writeUInt32BE(length);
          expect(protocolFrom(frame)).to.equal('frames');
        }),
      );
    }
    const beyond = Buffer.alloc(4);
    beyond.writeUInt32BE((maxTellableLength(4) as number) + 1);
    expect(protocolFrom(beyond)).to.equal('http1');
  });
});

describe('a connection whose first bytes tell its protocol', () => {
  it('is given on with the same decision and every byte, however they are split', async () => {
    await fc.assert(
      fc.asyncProperty(beginnings, fc.array(fc.nat(40), { maxLength: 6 }), async (bytes, cuts) => {
        const expected = protocolFrom(bytes);
        const { send, decided, received, wire } = detecting();
        const inside = [...new Set(cuts)].filter((cut) => cut > 0 && cut < bytes.length);
        const at = [0, ...inside.sort((a, b) => a - b), bytes.length];
        await send(...at.slice(1).map((end, i) => bytes.subarray(at[i] as number, end)));
        expect(decided).to.deep.equal(expected === null ? [] : [expected]);
        const skipped = expected === 'calls' ? callsPreface.length : 0;
        if (expected !== null) expect(received()).to.deep.equal(bytes.subarray(skipped));
        wire.destroy();
      }),
      { numRuns: 300 },
    );
  });

  it('is given on byte by byte as well, and what follows comes after', async () => {
    for (const [text, protocol] of [
      [`${http2Preface}\0\0\0\x04`, 'http2'],
      [`${callsPreface}\0\0\0\x01x`, 'calls'],
      ['POST / HTTP/1.1\r\n\r\n', 'http1'],
      ['\0\0\0\x05hello', 'frames'],
    ] as const) {
      const { send, decided, received, counts } = detecting();
      await send(...text);
      expect(decided).to.deep.equal([protocol]);
      expect(received().toString('latin1')).to.equal(text.slice(protocol === 'calls' ? callsPreface.length : 0));
      // The rest is counted by who reads it.
      expect(counts().bytesReceived).to.equal(protocol === 'calls' ? callsPreface.length : 0);
    }
  });

  it('goes on in another worker as if it had been there from the beginning', async () => {
    await fc.assert(
      fc.asyncProperty(beginnings, fc.nat(23), async (bytes, at) => {
        const head = bytes.subarray(0, Math.min(at, bytes.length - 1));
        const here = detecting();
        if (head.length > 0) await here.send(head);
        const isDecided = here.decided.length > 0;
        expect(here.detection.canMigrate).to.equal(!isDecided);
        if (isDecided) return;
        expect(await here.detection.quiesce()).to.equal(true);
        const state = here.detection.detach();
        await nextTurn();
        expect(here.closed()).to.deep.equal([true]);
        expect(Object.entries(here.counts()).filter(([, count]) => Number(count) > 0)).to.deep.equal([]);
        const there = detecting({}, state);
        await there.send(bytes.subarray(head.length));
        const expected = protocolFrom(bytes);
        expect(there.decided).to.deep.equal(expected === null ? [] : [expected]);
        const skipped = expected === 'calls' ? callsPreface.length : 0;
        if (expected !== null) expect(there.received()).to.deep.equal(bytes.subarray(skipped));
        there.wire.destroy();
      }),
    );
  });

  it('has what was read when it is to move decided first', async () => {
    const { detection, wire, decided } = detecting();
    wire.pause();
    wire.push(Buffer.from('GET /'));
    expect(await detection.quiesce()).to.equal(false);
    expect(decided).to.deep.equal(['http1']);
    expect(detection.canMigrate).to.equal(false);
    wire.destroy();
  });

  it('speaks what it has chosen in its TLS handshake, before a byte comes', () => {
    expect(detecting({ alpnProtocol: 'h2' }).decided).to.deep.equal(['http2']);
    expect(detecting({ alpnProtocol: 'http/1.1' }).decided).to.deep.equal(['http1']);
    expect(detecting({ alpnProtocol: false }).decided).to.deep.equal([]);
  });

  it('is closed and counted when its listener does not serve what it begins', async () => {
    const { send, wire, decided, counts, closed } = detecting({ takesFrames: false });
    await send('\x16\x03\x01\x02');
    expect(decided).to.deep.equal([]);
    expect(wire.isEnded).to.equal(true);
    wire.push(null);
    wire.resume();
    await nextTurn();
    wire.destroy();
    await nextTurn();
    expect(closed()).to.deep.equal([false]);
    expect(counts()).to.include({ closedByProtocol: 1, bytesReceived: 4 });
  });

  it('counts how it ended when it said nothing whole', async () => {
    const ends: readonly (readonly [string, (it: ReturnType<typeof detecting>) => void])[] = [
      ['closedByClient', ({ wire }) => void wire.push(null)],
      ['closedByError', ({ wire }) => void wire.destroy(Object.assign(new Error('reset'), { code: 'ECONNRESET' }))],
      ['closedByKeepAlive', ({ wire }) => void wire.destroy(Object.assign(new Error('gone'), { code: 'ETIMEDOUT' }))],
      ['closedByDrain', ({ detection }) => detection.destroy()],
    ];
    for (const [counter, end] of ends) {
      const detected = detecting();
      await detected.send('MLTC');
      end(detected);
      await nextTurn();
      detected.wire.destroy();
      await nextTurn();
      expect(detected.counts()[counter as 'closedByClient'], counter).to.equal(1);
      expect(detected.closed()).to.deep.equal([false]);
      expect(detected.decided).to.deep.equal([]);
    }
  });
});

describe('the time to begin a protocol', () => {
  const clock = withClock();
  const tick = (detection: Detection, ms: number): void => {
    clock().tick(ms);
    detection.checkTimeouts(performance.now());
  };
  /** Which counter of ends has counted, once the socket has closed. */
  const endOf = async ({ wire, counts }: ReturnType<typeof detecting>): Promise<readonly string[]> => {
    wire.destroy();
    await nextTurn();
    return Object.entries(counts()).flatMap(([name, count]) =>
      name.startsWith('closedBy') && Number(count) > 0 ? [name] : [],
    );
  };

  it('is that of a frame, from the first byte on; raw clients may be silent before', async () => {
    const detected = detecting();
    const { detection, wire } = detected;
    tick(detection, 100_000);
    expect(wire.writableEnded).to.equal(false);
    wire.deliver(Buffer.from('M'));
    tick(detection, 600);
    wire.deliver(Buffer.from('L'));
    tick(detection, 399);
    expect(wire.writableEnded).to.equal(false);
    tick(detection, 1);
    expect(wire.writableEnded).to.equal(true);
    expect(await endOf(detected)).to.deep.equal(['closedByPayloadTimeout']);
  });

  it('goes on where it was, when the connection moves to another worker', async () => {
    const here = detecting();
    here.wire.deliver(Buffer.from('M'));
    tick(here.detection, 700);
    const there = detecting({}, here.detection.detach());
    tick(there.detection, 299);
    expect(there.wire.writableEnded).to.equal(false);
    tick(there.detection, 1);
    expect(there.wire.writableEnded).to.equal(true);
    expect(await endOf(there)).to.deep.equal(['closedByPayloadTimeout']);
  });

  it('runs from the beginning where clients speak first, and where a secret is asked for', async () => {
    for (const [options, counter] of [
      [{ takesFrames: false }, 'closedByPayloadTimeout'],
      [{ hasSecret: true }, 'closedBySecret'],
    ] as const) {
      const detected = detecting(options);
      tick(detected.detection, 999);
      expect(detected.wire.writableEnded).to.equal(false);
      tick(detected.detection, 1);
      expect(detected.wire.writableEnded).to.equal(true);
      expect(await endOf(detected)).to.deep.equal([counter]);
    }
  });

  it('is as long as any client may be idle, where it may say nothing', async () => {
    const detected = detecting({ limits: { payloadTimeoutMs: 1000, idleTimeoutMs: 5000 } });
    tick(detected.detection, 4999);
    expect(detected.wire.writableEnded).to.equal(false);
    tick(detected.detection, 1);
    expect(detected.wire.writableEnded).to.equal(true);
    expect(await endOf(detected)).to.deep.equal(['closedByIdleTimeout']);
  });

  it('is over when the server drains, except for a client that has only just connected', async () => {
    const old = detecting();
    clock().tick(lingerMs);
    old.detection.drain();
    expect(old.wire.writableEnded).to.equal(true);
    expect(await endOf(old)).to.deep.equal(['closedByDrain']);

    const silent = detecting();
    clock().tick(lingerMs - 200);
    silent.detection.drain();
    clock().tick(199);
    expect(silent.wire.writableEnded).to.equal(false);
    clock().tick(1);
    expect(silent.wire.writableEnded).to.equal(true);
    expect(await endOf(silent)).to.deep.equal(['closedByDrain']);

    const quick = detecting();
    quick.detection.drain();
    clock().tick(5);
    quick.wire.deliver(Buffer.from('GET /'));
    expect(quick.decided).to.deep.equal(['http1']);
    clock().tick(lingerMs * 2);
    expect(quick.wire.writableEnded).to.equal(false);
    expect(await endOf(quick)).to.deep.equal([]); // it is counted by whom it was given to
  });
});
