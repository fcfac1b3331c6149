// The embedded aggregator: a child that the primary forks when no Redis is configured, and replaces when it dies.

import { type ChildProcess, fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { codeChange, runningCode } from '../code.js';
import { type AggregatorConfig, withoutSecrets } from '../config/slices.js';
import type { BootFailed, FromAggregator, ToAggregator } from '../control.js';
import type { Log } from '../log.js';
import type { IpcRelay } from '../metrics/transport/ipc.js';
import type { ChildOutput } from './child-output.js';
import { backOffMs, codeCheckMs, youngMs } from './plan.js';

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
  #child: ChildProcess | null = null;
  #isStopping = false;
  #youngDeaths = 0;
  #refusedFor: string | null = null;
  #timer: NodeJS.Timeout | undefined;

  constructor(config: AggregatorConfig, relay: IpcRelay, log: Log, output: ChildOutput, events: AggregatorChildEvents) {
    this.#config = config;
    this.#relay = relay;
    this.#log = log;
    this.#output = output;
    this.#events = events;
  }

  start(): void {
    const change = codeChange();
    if (change === null) this.#fork();
    else this.#refuse(change);
  }

  #fork(): void {
    const child = fork(fileURLToPath(new URL('../aggregator/embedded.js', import.meta.url)), [], {
      serialization: 'advanced',
      env: { ...process.env, ...withoutSecrets },
      stdio: this.#output.stdio,
    });
    this.#output.relay(child);
    const forkedAt = performance.now();
    this.#child = child;
    this.#refusedFor = null;
    child.on('message', (message: FromAggregator) => {
      if (message.kind === 'hello') {
        if (message.code === runningCode) void send({ kind: 'boot', config: this.#config });
        else child.kill('SIGKILL');
      } else if (message.kind === 'ready') this.#events.onReady(message.url);
      else this.#events.onBootFailed(message);
    });
    child.once('exit', (exitCode, signal) =>
      this.#exited(performance.now() - forkedAt, signal ?? `exit code ${exitCode}`),
    );
    child.on('error', (error) => this.#log.error({ err: error }, 'aggregator could not be reached'));
    const send = (message: ToAggregator): Promise<void> =>
      new Promise((resolve) => {
        // A channel that is closing loses the message with its reader; the exit event follows.
        if (child.connected) child.send(message, () => resolve());
        else resolve();
      });
    void this.#relay.attach((update) => send({ kind: 'update', update }));
  }

  /** Lets it send the last state to its clients and end; killed when that takes longer than two seconds. */
  async drain(): Promise<void> {
    this.#isStopping = true;
    clearTimeout(this.#timer);
    const child = this.#child;
    if (child === null || child.exitCode !== null || child.signalCode !== null) return;
    const overdue = setTimeout(() => child.kill('SIGKILL'), 2000);
    const exited = new Promise((resolve) => child.once('exit', resolve));
    if (child.connected) child.send({ kind: 'drain' } satisfies ToAggregator, () => {});
    await exited;
    clearTimeout(overdue);
  }

  kill(): void {
    this.#isStopping = true;
    clearTimeout(this.#timer);
    this.#child?.kill('SIGKILL');
  }

  /** Says so once, and looks again: what is being replaced may come back as it was. */
  #refuse(change: string): void {
    if (this.#refusedFor !== change) this.#log.error({ reason: change }, 'no aggregator is started from other code');
    this.#refusedFor = change;
    this.#timer = setTimeout(() => this.start(), codeCheckMs);
  }

  #exited(ageMs: number, how: string): void {
    this.#child = null;
    this.#relay.detach();
    if (this.#isStopping) return;
    this.#youngDeaths = ageMs < youngMs ? this.#youngDeaths + 1 : 0;
    const delayMs = backOffMs(this.#youngDeaths, Math.random());
    this.#log.error({ how, replacedInMs: Math.round(delayMs) }, 'aggregator died; inference goes on');
    this.#timer = setTimeout(() => this.start(), delayMs);
  }
}
