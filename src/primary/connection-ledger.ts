// Who holds how many of the machine's connections. Workers ask here before they serve one, so that
// server.maxConnections holds over all of them, however the kernel or the cluster module spread the connections.

export interface ConnectionHolder {
  connections: number;
}

export class ConnectionLedger {
  #maxConnections: number;
  #taken = 0;

  constructor(maxConnections: number) {
    this.#maxConnections = maxConnections;
  }

  /** How many of `wanted` new connections `holder` may keep. */
  admit(holder: ConnectionHolder, wanted: number): number {
    const granted = Math.max(0, Math.min(wanted, this.#maxConnections - this.#taken));
    this.#taken += granted;
    holder.connections += granted;
    return granted;
  }

  release(holder: ConnectionHolder, count: number): void {
    this.#taken -= count;
    holder.connections -= count;
  }

  /** One of the connections of `from` goes to `to`. */
  move(from: ConnectionHolder, to: ConnectionHolder): void {
    from.connections--;
    to.connections++;
  }

  /** The limit from now on; connections beyond it stay. */
  set maxConnections(limit: number) {
    this.#maxConnections = limit;
  }

  /** A worker that is gone holds nothing. */
  releaseAll(holder: ConnectionHolder): void {
    this.release(holder, holder.connections);
  }
}
