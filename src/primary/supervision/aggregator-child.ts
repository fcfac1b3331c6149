// The embedded aggregator: a child that the primary forks when no Redis is configured, and replaces when it dies.

import { fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { type AggregatorConfig, withoutSecrets } from '../../config/slices.js';
import type { BootFailed, FromAggregator, ToAggregator } from '../../ipc/messages.js';
import type { IpcRelay } from '../../metrics/transport/ipc.js';
import type { Log } from '../../process/log.js';
import type { ChildOutput } from './child-output.js';
import { Child } from './child-process.js';
import { Fleet } from './fleet.js';
import type { Slot } from './slot.js';

type Aggregator = Child<ToAggregator, FromAggregator>;

/** How long it may take to send the last state to its clients. */
const drainTimeoutMs = 2000;

export interface AggregatorChildEvents {
  onReady(url: string): void;
  onBootFailed(failure: BootFailed): void;
}

export class AggregatorChild {
  readonly #config: AggregatorConfig;
  readonly #relay: IpcRelay;
  readonly #log: Log;
  readonly #output: ChildOutput;
  readonly #events: AggregatorChildEvents;
  readonly #fleet: Fleet<Aggregator>;
  #url: string | null = null;

  constructor(config: AggregatorConfig, relay: IpcRelay, log: Log, output: ChildOutput, events: AggregatorChildEvents) {
    this.#config = config;
    this.#relay = relay;
    this.#log = log;
    this.#output = output;
    this.#events = events;
    this.#fleet = new Fleet<Aggregator>({
      // Inference continues without it, so starting it is never given up.
      wish: () => ({ workers: 1, revision: 1, maxBootFailures: Number.POSITIVE_INFINITY }),
      start: (slot, incarnation) => this.#fork(slot, incarnation),
      end: (aggregator) => aggregator.end({ kind: 'drain' }, drainTimeoutMs),
      onExit: (aggregator, slot, how) => this.#exited(aggregator, slot, how),
      onCodeChanged: (change, _slot, isNews) => {
        if (isNews) log.error({ reason: change }, 'no aggregator is started from other code');
      },
      onGiveUp: () => {},
    });
  }

  /** The URL of the metrics, as reported by the last aggregator that became ready. */
  get url(): string | null {
    return this.#url;
  }

  start(): void {
    this.#fleet.reconcile();
  }

  /** Lets it send the last state to its clients and end; kills it when that takes too long. */
  drain(): Promise<void> {
    return this.#fleet.drain();
  }

  kill(): void {
    this.#fleet.kill();
  }

  #fork(slot: Slot<Aggregator>, incarnation: number): Aggregator {
    const child = fork(fileURLToPath(new URL('../../aggregator/embedded.js', import.meta.url)), [], {
      serialization: 'advanced',
      env: { ...process.env, ...withoutSecrets },
      stdio: this.#output.stdio,
    });
    this.#output.relay(child);
    child.on('error', (error) => this.#log.error({ err: error }, 'aggregator could not be reached'));
    const aggregator: Aggregator = new Child({
      process: child,
      role: 'aggregator',
      incarnation,
      boot: () => ({ kind: 'boot', config: this.#config }),
    });
    aggregator.onMessage((message) => {
      if (message.kind === 'boot-failed') this.#events.onBootFailed(message);
      else if (message.kind === 'ready') {
        if (aggregator.becomeReady()) slot.noteReady();
        this.#url = message.url;
        this.#events.onReady(message.url);
      }
    });
    // A closing channel loses the message together with its reader; the exit follows.
    void this.#relay.attach((update) => aggregator.sent({ kind: 'update', update }).catch(() => {}));
    return aggregator;
  }

  #exited(aggregator: Aggregator, slot: Slot<Aggregator>, how: string): void {
    this.#relay.detach();
    if (this.#fleet.isStopping) return;
    const replacedInMs = Math.round(slot.noteDeath(aggregator));
    this.#log.error({ how, replacedInMs }, 'aggregator died; inference goes on');
  }
}
