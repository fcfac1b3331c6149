// The connections that the primary sends to this worker, and the places of connections that have ended. The primary is
// informed of both once per turn of the event loop. A connection is served when that message has left: nothing is read
// from it before, so that the primary can give it to another worker if this one dies.

import { FrameSplitter, trialListener } from '../../ipc/connection-frames.js';
import type { Arrival, FromWorker } from '../../ipc/messages.js';
import { interceptChannel, type RawHandle, socketOn } from '../../net/raw-handle.js';

/** A null handle was lost, because no descriptor was left for it. */
type Serve = (arrival: Arrival, handle: RawHandle | null) => void;

export class Arrivals {
  readonly #send: (message: FromWorker) => Promise<void>;
  #serve: Serve = () => {};
  #arrived: (readonly [Arrival, RawHandle | null])[] = [];
  #released: string[] = [];
  #isDue = false;
  /** Connections that are here and not served yet. */
  #pending = 0;

  /** @param send resolves when the message has left; rejects when the primary is gone */
  constructor(send: (message: FromWorker) => Promise<void>) {
    this.#send = send;
  }

  /** Serves the connections from now on. */
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

/** Receives the connections that come outside Node's messages; returns false where this is impossible. */
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
