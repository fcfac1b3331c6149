// A child process that does what a test says: it behaves as Node's ChildProcess with a channel.

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

  /** Has it say something. */
  says(message: object): void {
    this.emit('message', message);
  }

  /** It ends, and its channel closes. */
  exits(exitCode: number | null, signal: string | null = null): void {
    this.exitsBeforeItIsRead(exitCode, signal);
    this.channelEnds();
  }

  /** It ends; what it has said before is still in the channel. */
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

  /** As in reality, its end is not known before this has returned. */
  kill(signal: string): boolean {
    if (this.#isGone) return false;
    this.signals.push(signal);
    process.nextTick(() => this.exits(null, signal));
    return true;
  }
}
