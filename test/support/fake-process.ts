// A child process that the test controls: it behaves like Node's ChildProcess with a channel.

import type { ChildProcess } from 'node:child_process';
import { EventEmitter } from 'node:events';

export class FakeProcess extends EventEmitter {
  pid: number | undefined;
  connected = true;
  readonly sent: { readonly kind: string }[] = [];
  readonly signals: string[] = [];
  #isGone = false;

  constructor(pid: number | undefined = 7) {
    super();
    this.pid = pid;
  }

  get asChild(): ChildProcess {
    return this as unknown as ChildProcess;
  }

  /** The child sends a message. */
  says(message: object): void {
    this.emit('message', message);
  }

  /** The child ends, and its channel closes. */
  exits(exitCode: number | null, signal: string | null = null): void {
    this.exitsBeforeItIsRead(exitCode, signal);
    this.channelEnds();
  }

  /** The child ends; what it sent before is still in the channel. */
  exitsBeforeItIsRead(exitCode: number | null, signal: string | null = null): void {
    if (this.#isGone) return;
    this.#isGone = true;
    this.emit('exit', exitCode, signal);
  }

  channelEnds(): void {
    this.connected = false;
    this.emit('disconnect');
  }

  send(message: { readonly kind: string }, _handle: unknown, _options: unknown, onSent: (error: Error | null) => void) {
    if (this.connected) this.sent.push(message);
    process.nextTick(onSent, this.connected ? null : new Error('ERR_IPC_CHANNEL_CLOSED'));
    return this.connected;
  }

  /** As in reality, the end is known only after this has returned. */
  kill(signal: string): boolean {
    if (this.#isGone) return false;
    this.signals.push(signal);
    process.nextTick(() => this.exits(null, signal));
    return true;
  }
}
