// A second protocol, as small as possible, over the seam that the framed one uses: each line is a payload, each reply a
// line, an empty one where there is none. It has no time limits, and its connections never migrate. Serving does the
// rest, as for every protocol.

import assert from 'node:assert';
import type { Duplex } from 'node:stream';
import type { ModelEndpoint } from '#src/serving/model-endpoint.js';
import type { RequestAccounting, RequestClient } from '#src/serving/request-accounting.js';
import type { RequestGroup } from '#src/serving/request-group.js';
import type { ServedConnection } from '#src/worker/protocols.js';
import { viewOf } from './reply-spans.js';

const newline = Buffer.from('\n');

export class LineConnection implements ServedConnection, RequestClient {
  activeAt = performance.now();
  readonly canMigrate = false;
  readonly #socket: Duplex;
  readonly #endpoint: ModelEndpoint;
  readonly #requests: RequestAccounting;
  readonly #replies: Buffer[] = [];
  readonly #lines = { source: Buffer.alloc(0) as Buffer, start: 0, end: -1, next: () => this.#nextLine() };
  #isInputOver = false;

  constructor(socket: Duplex, endpoint: ModelEndpoint, onClose: () => void) {
    this.#socket = socket;
    this.#endpoint = endpoint;
    this.#requests = endpoint.connect(this);
    socket.on('data', (chunk: Buffer) => {
      if (this.#isInputOver) return;
      this.activeAt = performance.now();
      this.#lines.source = Buffer.concat([this.#unread, chunk]);
      this.#lines.end = -1;
      this.start();
    });
    socket.on('end', () => this.drain()).on('error', () => {});
    socket.on('close', () => this.#requests.close()).on('close', onClose);
  }

  get inFlight(): number {
    return this.#requests.inFlight;
  }

  get #unread(): Buffer {
    return this.#lines.source.subarray(this.#lines.end + 1);
  }

  #nextLine(): 'frame' | 'incomplete' | 'too-large' {
    const unread = this.#unread;
    const length = unread.indexOf(newline);
    if ((length < 0 ? unread.length : length) > this.#endpoint.limits.maxPayloadBytes) return 'too-large';
    if (length < 0) return 'incomplete';
    this.#lines.start = this.#lines.end + 1;
    this.#lines.end = this.#lines.start + length;
    return 'frame';
  }

  start(): void {
    if (this.#socket.destroyed) return;
    const stop = this.#endpoint.submit(this.#requests, this.#lines, this.activeAt);
    if (stop === 'too-large') {
      this.#isInputOver = true;
      this.#lines.end = this.#lines.source.length - 1;
      this.#endpoint.refuse(this.#requests, 'refusedPayloadTooLarge', this.activeAt);
    }
    this.#requests.answer();
    const hasRoom = this.#requests.hold(this.#unread.length + this.#socket.writableLength);
    const mayRead = hasRoom && (stop === 'incomplete' || stop === 'too-large');
    if (stop === 'turn') setImmediate(() => this.start());
    if (mayRead && this.#isInputOver && this.#requests.isEmpty && this.#replies.length === 0) this.#socket.end();
    this.#socket[mayRead ? 'resume' : 'pause']();
  }

  drain(): void {
    this.#isInputOver = true;
    this.start();
  }

  encodeReplies(groups: readonly RequestGroup[]): void {
    for (const group of groups)
      for (let i = 0; i < group.requests; i++) {
        const reply = group.reply(i);
        if (reply === null) group.failed++;
        this.#replies.push(Buffer.concat([reply === null ? Buffer.alloc(0) : viewOf(reply), newline]));
      }
  }

  sendReplies(): void {
    if (!this.#socket.destroyed) this.#socket.write(Buffer.concat(this.#replies.splice(0)));
    this.start();
  }

  onAnswered = (): void => this.start();
  resumeReading = (): void => this.start();
  endTurn = (): void => this.start();
  destroy = (): void => void this.#socket.destroy();
  checkTimeouts = (): void => {};
  quiesce = async (): Promise<boolean> => false;
  cancelMigration = (): void => {};
  detach = (): never => assert.fail('it does not move');
}
