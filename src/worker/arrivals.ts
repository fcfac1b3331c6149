// The connections that the primary sends to this worker, and the places of those that have ended. The primary hears of
// both once a turn of the event loop. A connection is served when that has left: before, nothing is read of it, so that
// the primary can give it to another worker if this one dies.

import { FrameSplitter, trialListener } from '../connection-frames.js';
import type { Arrival, FromWorker } from '../ipc/messages.js';
import { interceptChannel, type RawHandle, socketOn } from '../raw-handle.js';

/** Null: its handle was lost, since no descriptor was left for it. */
type Serve = (arrival: Arrival, handle: RawHandle | null) => void;

export class Arrivals {
  readonly #send: (message: FromWorker) => Promise<void>;
  #serve: Serve = () => {};
  #arrived: (readonly [Arrival, RawHandle | null])[] = [];
  #released: string[] = [];
  #isDue = false;
  /** Those that are here and not served yet. */
  #pending = 0;

  /** @param send resolves when the message has left; rejects when the primary is gone */
  constructor(send: (message: FromWorker) => Promise<void>) {
    this.#send = send;
  }

  /** Who has the connections from now on. */
  set onServe(serve: Serve) {
    this.#serve = serve;
  }

  /** Connections that have come and are not served yet. */
  get pending(): number {
    return this.#pending;
  }

  arrive(arrival: Arrival, handle: RawHandle | null): void {
    this.#pending++;
    this.#arrived.push([arrival, handle]);
    this.#beDue();
  }

  /** A connection with a place has ended. */
  release(address: string): void {
    this.#released.push(address);
    this.#beDue();
  }

  #beDue(): void {
    if (this.#isDue) return;
    this.#isDue = true;
    setImmediate(this.#tell);
  }

  readonly #tell = async (): Promise<void> => {
    this.#isDue = false;
    const arrived = this.#arrived;
    const released = this.#released;
    this.#arrived = [];
    this.#released = [];
    try {
      await this.#send({ kind: 'connections', acknowledged: arrived.length, released });
    } catch {
      return; // the primary is gone, and this process ends with it
    }
    for (const [arrival, handle] of arrived) {
      this.#pending--;
      this.#serve(arrival, handle);
    }
  };
}

/** Takes those that come beside Node's messages; returns false where that cannot be done. */
export function receiveArrivals(arrivals: Arrivals): boolean {
  let pass: Parameters<Parameters<typeof interceptChannel>[0]>[2] = () => {};
  const splitter = new FrameSplitter<RawHandle>({
    onOther: (bytes, handle) => pass(bytes, handle),
    onArrival: (arrival, handle) => {
      if (arrival.listener === trialListener) answerTrial(handle);
      else arrivals.arrive(arrival, handle);
    },
  });
  return interceptChannel((bytes, handle, passOn) => {
    pass = passOn;
    splitter.read(bytes, handle);
  });
}

function answerTrial(handle: RawHandle | null): void {
  if (handle === null) return;
  const socket = socketOn(handle).on('error', () => {});
  socket.end('here');
  socket.resume();
}
