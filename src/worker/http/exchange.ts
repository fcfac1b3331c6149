// One request and its answer: the head is checked before anything of the body is read, the body is collected within its
// limits, and what it asks for is answered.
//
//   begin ─▶ take, take … ended ─▶ decompressed ─▶ decoded ─▶ calls.infer ─▶ answered, failed ─▶ send
//     └─ refuse: the answer says that the connection closes, when the rest of the request is not read

import type { ServerResponse } from 'node:http';
import { messageOf, type RequestError } from '../../errors.js';
import type { WorkerCounter } from '../../metrics/recorder.js';
import { InvalidMessage } from '../../protocol/invalid-message.js';
import type { InferAnswer, InferCall } from '../../protocol/oip/infer.js';
import { decodeJsonRequest, jsonBytesOf } from '../../protocol/oip/json/request.js';
import { encodeJsonAnswer, type JsonAnswer } from '../../protocol/oip/json/response.js';
import { CallError, type CallFailure, type CallListener, type CallReceiver, type ClientCalls } from '../oip/service.js';
import { Body } from './body.js';
import { acceptedCoding, type Coding, codingOf, compress, decompress } from './content-coding.js';
import type { HttpContext } from './context.js';
import { documentOf } from './documents.js';
import type { JsonCodec } from './json/codec.js';
import type { Wanted } from './json/tasks.js';
import { malformed, type Refusal, refusalOf, refusalParts } from './refusal.js';
import type { BodyReader, HttpRequest } from './request.js';
import { type Match, matchRoute } from './routes.js';

/** Smaller answers fit into one packet anyway. */
const minCompressedBytes = 1024;
/** Smaller ones leave as one text with their head: two buffers would be two pieces of one write. */
const maxTextBytes = 8 * 1024;

/** The connection, as one exchange of several concerns it. */
export interface ExchangeOwner {
  readonly calls: ClientCalls;
  readonly codec: JsonCodec;
  readonly context: HttpContext;
  readonly listener: CallListener;
  readonly isClosed: boolean;
  /** The body is complete, or not wanted any more. */
  endBody(): void;
  /** So many more bytes are held for requests; fewer when negative. @returns whether more may come now */
  hold(bytes: number): boolean;
  /** A request waits for others of this client; it is submitted again. */
  wait(exchange: Exchange): void;
  /** The answer is encoded; `send` is called when it is counted. */
  hasEncoded(exchange: Exchange): void;
  /** Whether an answer that is about to leave is the last one. */
  isLast(exchange: Exchange): boolean;
  /** An answer was written. @param bytes that the socket has not taken yet */
  hasAnswered(bytes: number, isLast: boolean): void;
  /** The socket has taken an answer. @param bytes of it that were reported to `hasAnswered` */
  hasFinished(exchange: Exchange, bytes: number): void;
  /** Tells why the connection closes, before it does. */
  closesBy(reason: Extract<WorkerCounter, `closedBy${string}`>): void;
}

export class Exchange implements BodyReader, CallReceiver {
  readonly begunAt: number;
  readonly #connection: ExchangeOwner;
  readonly #request: HttpRequest;
  readonly #response: ServerResponse;
  #match: Match | null = null;
  #coding: Coding | null = null;
  #maxBodyBytes = 0;
  readonly #body = new Body();
  #bodyBytes = 0;
  /** Those that the connection holds for it. */
  #held = 0;
  /** Nothing more is read of it: it is complete, or refused. */
  #isRead = false;
  #arrivedAt = 0;
  #call: InferCall | null = null;
  /** Of the call, what its answer needs: the rest may be large. */
  #wanted: Wanted = { outputs: [], isBinary: false };
  /** What is to be sent: one of the two. */
  #answer: JsonAnswer | null = null;
  #refusal: Refusal | null = null;
  #unsent = 0;

  constructor(connection: ExchangeOwner, request: HttpRequest, response: ServerResponse, begunAt: number) {
    this.#connection = connection;
    this.#request = request;
    this.#response = response;
    this.begunAt = begunAt;
  }

  /** Checks the head. */
  begin(expects: '100-continue' | 'other' | null): void {
    this.#response.on('finish', () => this.#connection.hasFinished(this, this.#unsent));
    this.#request.reader = this;
    const refusal = this.#checkHead(expects);
    if (refusal !== null) this.refuse(refusal);
    else if (expects === '100-continue') this.#response.writeContinue();
  }

  take(chunk: Buffer): boolean {
    if (this.#isRead) return true;
    this.#bodyBytes += chunk.length;
    if (this.#bodyBytes > this.#maxBodyBytes) {
      this.refuse(this.#tooLarge());
      return true;
    }
    this.#body.push(chunk);
    if (this.#bodyBytes === Number(this.#request.headers['content-length'])) return true;
    return this.#hold(this.#bodyBytes);
  }

  ended(): void {
    if (this.#isRead) return;
    this.#isRead = true;
    this.#connection.endBody();
    this.#arrivedAt = performance.now();
    const body = this.#body.take();
    if (this.#coding !== null && body.length > 0) void this.#decompress(this.#coding, body);
    else this.#handle(body);
  }

  /** Refuses it, and has it counted: no model has seen it. */
  refuse(refusal: Refusal): void {
    const { reason, message, retryAfterMs = 0 } = refusal;
    if (!this.#isRead && reason === 'PAYLOAD_TOO_LARGE') this.#connection.closesBy('closedByPayloadTooLarge');
    this.#readNoMore();
    this.#refusal = refusal;
    if (reason === null || reason === 'PAYLOAD_TIMEOUT') this.send();
    else {
      this.#connection.hasEncoded(this);
      this.#connection.calls.refused(this.#match?.model ?? '', { reason, message, retryAfterMs });
    }
  }

  answered(answer: InferAnswer): boolean {
    const { codec } = this.#connection;
    const wanted = this.#wanted;
    try {
      if (codec.isLongToEncode(answer, wanted)) {
        const encoding = codec.encode(answer, wanted);
        this.#hold(answer.outputs.reduce((bytes, { start, end }) => bytes + end - start, 0));
        void this.#encodeLong(encoding);
      } else {
        this.#answer = encodeJsonAnswer(answer, wanted);
        this.#connection.hasEncoded(this);
      }
      return true;
    } catch (error) {
      if (!(error instanceof InvalidMessage)) throw error;
      this.failed(failure('INFERENCE_FAILED', error.message));
      return false;
    }
  }

  failed(failure: CallFailure): void {
    this.#refusal = refusalOf(failure);
    this.#connection.hasEncoded(this);
  }

  /** Sends the answer or the failure, which is counted. */
  send(): void {
    const refusal = this.#refusal;
    if (refusal !== null) {
      const { headers, body } = refusalParts(refusal);
      this.#write(refusal.status, headers, body);
    } else if (this.#answer !== null) this.#sendAnswer(this.#answer);
  }

  /** Asks the model, or waits for others of the same client. */
  submit(): void {
    const { calls } = this.#connection;
    const call = this.#call;
    if (this.#connection.isClosed || call === null) return;
    if (calls.places <= 0) {
      this.#hold(this.#bodyBytes);
      this.#connection.wait(this);
      return;
    }
    const held = this.#held;
    this.#held = 0;
    this.#call = null;
    this.#wanted = { outputs: call.outputs, isBinary: call.isBinary };
    calls.infer(call, this.#arrivedAt, this);
    this.#connection.hold(-held);
  }

  /** Why it is not read on; null: it is. */
  #checkHead(expects: '100-continue' | 'other' | null): Refusal | null {
    const { context } = this.#connection;
    const { method = '', url = '', headers, httpVersionMinor } = this.#request;
    if (headers.host === undefined && httpVersionMinor > 0) {
      this.#response.shouldKeepAlive = false;
      return malformed(400, 'a request of HTTP/1.1 has the header Host');
    }
    const match = matchRoute(method, url);
    this.#match = match;
    if (match?.route?.isFree !== true && context.secret?.isBearer(headers.authorization) === false) {
      this.#connection.closesBy('closedBySecret');
      this.#response.shouldKeepAlive = false;
      return refusalOf(failure('WRONG_SECRET', 'the header Authorization should be: Bearer, and server.sharedSecret'));
    }
    if (match === null) return malformed(404, 'there is no such path: see /v2/openapi.json for those that there are');
    if (match.route === null) return malformed(405, `this path has ${match.allow}`, ['Allow', match.allow]);
    if (expects === 'other') return malformed(417, 'of Expect, only 100-continue is known');
    const coding = codingOf(headers['content-encoding']);
    if (coding === undefined)
      return malformed(415, 'a body is compressed by gzip or deflate, or not at all', [
        'Accept-Encoding',
        'gzip, deflate',
      ]);
    this.#coding = coding;
    this.#maxBodyBytes = this.#mostBytes();
    const announced = headers['content-length'];
    if (announced !== undefined && Number(announced) > this.#maxBodyBytes) return this.#tooLarge();
    return null;
  }

  /** Of the body, decompressed. */
  #mostBytes(): number {
    const { maxJsonBytes, maxPayloadBytes } = this.#connection.context.limits;
    // Where the header says that bytes follow the JSON, the JSON has its own limit, which is checked when it is known.
    const isMixed = this.#request.headers['inference-header-content-length'] !== undefined;
    return isMixed ? maxPayloadBytes : Math.min(maxJsonBytes, maxPayloadBytes);
  }

  #tooLarge(isJson = this.#maxBodyBytes < this.#connection.context.limits.maxPayloadBytes): Refusal {
    const limit = isJson
      ? 'JSON may have server.maxJsonKb: send tensors in binary form'
      : 'a body may have server.maxPayloadSizeKb';
    return refusalOf(failure('PAYLOAD_TOO_LARGE', `the request is too large: ${limit}`));
  }

  async #decompress(coding: Coding, body: Buffer): Promise<void> {
    let bytes: Buffer | null;
    try {
      bytes = await decompress(coding, body, this.#maxBodyBytes);
    } catch {
      this.refuse(refusalOf(failure('BAD_INPUT', `the body is not what Content-Encoding says: ${coding}`)));
      return;
    }
    if (this.#connection.isClosed) return;
    if (bytes === null) this.refuse(this.#tooLarge());
    else {
      this.#bodyBytes = bytes.length;
      this.#handle(bytes);
    }
  }

  #handle(body: Buffer): void {
    const route = this.#match?.route;
    if (route?.operation === 'infer') this.#infer(body);
    else void this.#document(body);
  }

  #infer(body: Buffer): void {
    const { codec, context } = this.#connection;
    const asked = this.#match as Match;
    try {
      const jsonBytes = jsonBytesOf(this.#header('inference-header-content-length'), body.length);
      if (jsonBytes > context.limits.maxJsonBytes) this.refuse(this.#tooLarge(true));
      else if (codec.isLongToDecode(jsonBytes)) void this.#decodeLong(body, jsonBytes, asked);
      else {
        this.#call = decodeJsonRequest(body, jsonBytes, asked);
        this.submit();
      }
    } catch (error) {
      this.#refuseInvalid(error);
    }
  }

  async #decodeLong(body: Buffer, jsonBytes: number, asked: Match): Promise<void> {
    this.#hold(body.length);
    try {
      const { model, version } = asked;
      this.#call = await this.#connection.codec.decode(body, jsonBytes, { model, version });
      this.submit();
    } catch (error) {
      this.#refuseInvalid(error);
    }
  }

  async #encodeLong(encoding: Promise<JsonAnswer>): Promise<void> {
    try {
      this.#sendAnswer(await encoding);
    } catch (error) {
      this.#fail(error);
    }
  }

  async #document(body: Buffer): Promise<void> {
    const { route, model, version } = this.#match as Match;
    if (route === null) return;
    try {
      const document = documentOf(route.operation, this.#connection, { model, version, body });
      const { status, json } = document instanceof Promise ? await document : document;
      this.#send(status, ['Content-Type', 'application/json'], Buffer.from(json));
    } catch (error) {
      if (error instanceof CallError) this.refuse(refusalOf(error));
      else this.#refuseInvalid(error);
    }
  }

  /** Only these are compressed: tritonclient's http.aio accepts what it cannot read in other answers. */
  #sendAnswer({ body, jsonBytes }: JsonAnswer): void {
    const headers =
      jsonBytes === null
        ? ['Content-Type', 'application/json']
        : ['Content-Type', 'application/octet-stream', 'Inference-Header-Content-Length', String(jsonBytes)];
    const coding = body.length < minCompressedBytes ? null : acceptedCoding(this.#header('accept-encoding'));
    if (coding === null) this.#send(200, headers, body);
    else void this.#sendCompressed(headers, body, coding);
  }

  #send(status: number, headers: string[], body: Buffer): void {
    headers.push('Content-Length', String(body.length));
    this.#write(status, headers, body);
  }

  async #sendCompressed(headers: string[], body: Buffer, coding: Coding): Promise<void> {
    const bytes = await compress(coding, body).catch(() => null);
    if (bytes !== null) headers.push('Content-Encoding', coding);
    headers.push('Content-Length', String((bytes ?? body).length), 'Vary', 'Accept-Encoding');
    this.#write(200, headers, bytes ?? body);
  }

  #write(status: number, headers: string[], body: Buffer): void {
    const connection = this.#connection;
    const response = this.#response;
    if (connection.isClosed) return;
    this.#release();
    if (connection.isLast(this)) response.shouldKeepAlive = false;
    response.writeHead(status, headers);
    const isLast = !response.shouldKeepAlive;
    if (body.length <= maxTextBytes) response.end(body.toString('latin1'), 'latin1');
    else response.end(body);
    this.#unsent = response.writableLength;
    connection.hasAnswered(this.#unsent, isLast);
  }

  #refuseInvalid(error: unknown): void {
    if (error instanceof InvalidMessage) this.refuse(refusalOf(failure('BAD_INPUT', error.message)));
    else this.#fail(error);
  }

  /** A defect of ours, or a thread that died. */
  #fail(error: unknown): void {
    this.#refusal = refusalOf(failure('INFERENCE_FAILED', `the request could not be served: ${messageOf(error)}`));
    this.send();
  }

  /** Before it was read the connection closes after the answer, since what follows would be the rest of it. */
  #readNoMore(): void {
    if (this.#isRead) return;
    this.#isRead = true;
    this.#body.clear();
    if (!hasNoBody(this.#request)) this.#response.shouldKeepAlive = false;
    this.#connection.endBody();
  }

  /** Has so many bytes counted as held for it. @returns whether more may come now */
  #hold(bytes: number): boolean {
    const added = bytes - this.#held;
    this.#held = bytes;
    return this.#connection.hold(added);
  }

  #release(): void {
    if (this.#held > 0) this.#hold(0);
  }

  #header(name: string): string | undefined {
    const value = this.#request.headers[name];
    return typeof value === 'string' ? value : undefined;
  }
}

const failure = (reason: RequestError, message: string): CallFailure => ({ reason, message, retryAfterMs: 0 });

const hasNoBody = ({ headers }: HttpRequest): boolean =>
  headers['transfer-encoding'] === undefined && (headers['content-length'] ?? '0') === '0';
