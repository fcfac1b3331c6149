// What must hold all the while, looked at by those who run beside the chaos.

import { createConnection } from 'node:net';
import type { Metrics } from '#src/aggregator/metrics.js';
import type { ChaosCluster } from './cluster.js';

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/** A worker that has been ready for so long listens, whatever a status of a moment ago says. */
const surelyReadyMs = 1000;

/** The port takes connections while any worker is ready. */
export class PortWatch {
  faults: string[] = [];
  attempts = 0;
  /** Times without anybody listening, in milliseconds: no worker was there then. */
  readonly gaps: number[] = [];
  #isOver = false;
  readonly #watching: Promise<void>;

  constructor(cluster: ChaosCluster) {
    this.#watching = this.#watch(cluster);
  }

  async end(): Promise<void> {
    this.#isOver = true;
    await this.#watching;
  }

  async #watch(cluster: ChaosCluster): Promise<void> {
    let closedSince = 0;
    while (!this.#isOver) {
      const { pid } = cluster.node;
      this.attempts++;
      if (await connects(cluster.port)) {
        if (closedSince > 0) this.gaps.push(performance.now() - closedSince);
        closedSince = 0;
      } else {
        closedSince ||= performance.now();
        const status = await cluster.status().catch(() => null);
        const ready = status?.workers.find(
          (worker) => worker.state === 'ready' && worker.uptimeSeconds * 1000 > surelyReadyMs,
        );
        // Asked again: it may have been killed between the two looks.
        const isStill = ready !== undefined && cluster.workers.includes(ready.pid) && cluster.node.pid === pid;
        if (isStill && !(await connects(cluster.port)))
          this.faults.push(`the port was closed while worker ${ready.pid} was ready`);
      }
      await pause(25);
    }
  }
}

function connects(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = createConnection({ host: '127.0.0.1', port }, () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => resolve(false));
  });
}

/** Totals never fall, whichever aggregator is asked. */
export class TotalsWatch {
  faults: string[] = [];
  looks = 0;
  #highest = 0;
  #isOver = false;
  readonly #watching: Promise<void>;

  constructor(cluster: ChaosCluster) {
    this.#watching = this.#watch(cluster);
  }

  async end(): Promise<void> {
    this.#isOver = true;
    await this.#watching;
  }

  async #watch(cluster: ChaosCluster): Promise<void> {
    while (!this.#isOver) {
      const { aggregator } = cluster;
      const metrics = await fetch(`${aggregator.url}/metrics`)
        .then((response) => response.json() as Promise<Metrics>)
        .catch(() => null);
      // An aggregator that has just started beside an empty Redis knows nothing yet: it says so.
      if (metrics !== null && !metrics.stale && metrics.nodes.length > 0) {
        this.looks++;
        if (metrics.total_requests < this.#highest)
          this.faults.push(`totals fell from ${this.#highest} to ${metrics.total_requests}`);
        this.#highest = Math.max(this.#highest, metrics.total_requests);
      }
      await pause(50);
    }
  }
}
