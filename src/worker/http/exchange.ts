// One request and its answer: the head is checked before anything of the body is read, the body is collected within its
// limits, and what it asks for is answered.
//
//   begin ─▶ take, take … ended ─▶ decompressed ─▶ decoded ─▶ calls.infer ─▶ answered, failed ─▶ send
//     └─ refuse: the answer says that the connection closes, when the rest of the request is not read

import type { ServerResponse } from 'node:http';
import type { RequestError } from '../../errors.js';
import { InvalidMessage } from '../../protocol/invalid-message.js';
import type { InferAnswer, InferCall } from '../../protocol/oip/infer.js';
import { decodeJsonRequest, jsonBytesOf } from '../../protocol/oip/json/request.js';
import { encodeJsonAnswer, type JsonAnswer } from '../../protocol/oip/json/response.js';
import { CallError, type CallFailure, type CallReceiver } from '../oip/service.js';
import type { HttpConnection } from './connection.js';
import { acceptedCoding, type Coding, codingOf, compress, decompress } from './content-coding.js';
import { documentOf } from './documents.js';
import { malformed, type Refusal, refusalOf, refusalParts } from './refusal.js';
import type { BodyReader, HttpRequest } from './request.js';
import { type Match, matchRoute } from './routes.js';

/** Smaller answers fit into one packet anyway. */
const minCompressedBytes = 1024;
/** Smaller ones leave as one text with their head: two buffers would be two pieces of one write. */
const maxTextBytes = 8 * 1024;

export class Exchange implements BodyReader, CallReceiver {
  readonly begunAt: number;
  readonly #connection: HttpConnection;
  readonly #request: HttpRequest;
  readonly #response: ServerResponse;
  #match: Match | null = null;
  #coding: Coding | null = null;
  #maxBodyBytes = 0;
  #chunks: Buffer[] = [];
  #bodyBytes = 0;
  /** Those that the connection holds for it. */
  #held = 0;
  /** Nothing more is read of it: it is complete, or refused. */
  #isRead = false;
  #arrivedAt = 0;
  #call: InferCall | null = null;
  /** What is to be sent: an answer, or a failure. */
  #answer: JsonAnswer | null = null;
  #failure: CallFailure | null = null;
  #unsent = 0;

  constructor(connection: HttpConnection, request: HttpRequest, response: ServerResponse, begunAt: number) {
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
    if (refusal !== null) this.#refuseCounted(refusal);
    else if (expects === '100-continue') this.#response.writeContinue();
  }

  take(chunk: Buffer): boolean {
    if (this.#isRead) return true;
    this.#bodyBytes += chunk.length;
    if (this.#bodyBytes > this.#maxBodyBytes) {
      this.#refuseCounted(this.#tooLarge());
      return true;
    }
    // `[one]` allocates room for one element; a push to an empty array allocates room for seventeen.
    if (this.#chunks.length > 0) this.#chunks.push(chunk);
    else this.#chunks = [chunk];
    if (this.#bodyBytes === Number(this.#request.headers['content-length'])) return true;
    return this.#hold(this.#bodyBytes);
  }

  ended(): void {
    if (this.#isRead) return;
    this.#isRead = true;
    this.#connection.endBody();
    this.#arrivedAt = performance.now();
    const chunks = this.#chunks;
    this.#chunks = [];
    const body = chunks.length === 1 ? (chunks[0] as Buffer) : Buffer.concat(chunks);
    if (this.#coding !== null && body.length > 0) void this.#decompress(this.#coding, body);
    else this.#handle(body);
  }

  /** Refuses it before it was read: then the connection closes, since what follows would be the rest of it. */
  refuse(refusal: Refusal): void {
    if (!this.#isRead) {
      this.#isRead = true;
      this.#chunks = [];
      this.#connection.endBody();
      this.#response.shouldKeepAlive = this.#response.shouldKeepAlive && hasNoBody(this.#request);
    }
    const { headers, body } = refusalParts(refusal);
    this.#write(refusal.status, headers, body);
  }

  answered(answer: InferAnswer): boolean {
    const { codec } = this.#connection;
    const call = this.#call as InferCall;
    try {
      if (codec.isLongToEncode(answer, call)) {
        const encoding = codec.encode(answer, call);
        this.#hold(answer.outputs.reduce((bytes, { start, end }) => bytes + end - start, 0));
        void this.#encodeLong(encoding);
      } else {
        this.#answer = encodeJsonAnswer(answer, call);
        this.#connection.hasEncoded(this);
      }
      return true;
    } catch (error) {
      if (!(error instanceof InvalidMessage)) throw error;
      this.failed({ reason: 'INFERENCE_FAILED', message: error.message, retryAfterMs: 0 });
      return false;
    }
  }

  failed(failure: CallFailure): void {
    this.#failure = failure;
    this.#connection.hasEncoded(this);
  }

  /** What was encoded is counted now. */
  send(): void {
    if (this.#failure !== null) this.refuse(refusalOf(this.#failure));
    else if (this.#answer !== null) this.#sendAnswer(this.#answer);
  }

  /** Asks the model, or waits for others of the same client. */
  submit(): void {
    const { calls } = this.#connection;
    if (this.#connection.isClosed) return;
    if (calls.places <= 0) {
      this.#hold(this.#bodyBytes);
      this.#connection.wait(this);
      return;
    }
    calls.infer(this.#call as InferCall, this.#arrivedAt, this);
    this.#release();
  }

  /** Why it is not read on; null: it is. */
  #checkHead(expects: '100-continue' | 'other' | null): Refusal | null {
    const { context } = this.#connection;
    const { method = '', url = '', headers } = this.#request;
    const match = matchRoute(method, url);
    this.#match = match;
    if (match?.route?.isFree !== true && context.secret !== null && !this.#hasSecret()) {
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

  #hasSecret(): boolean {
    const shown = /^Bearer +(.+)$/i.exec(this.#request.headers.authorization ?? '')?.[1];
    return shown !== undefined && this.#connection.context.secret?.matches(Buffer.from(shown, 'latin1')) === true;
  }

  async #decompress(coding: Coding, body: Buffer): Promise<void> {
    let bytes: Buffer | null;
    try {
      bytes = await decompress(coding, body, this.#maxBodyBytes);
    } catch {
      this.#refuseCounted(refusalOf(failure('BAD_INPUT', `the body is not what Content-Encoding says: ${coding}`)));
      return;
    }
    if (this.#connection.isClosed) return;
    if (bytes === null) this.#refuseCounted(this.#tooLarge());
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
      if (jsonBytes > context.limits.maxJsonBytes) this.#refuseCounted(this.#tooLarge(true));
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
      const message = error instanceof Error ? error.message : 'the answer could not be written';
      this.refuse(refusalOf(failure('INFERENCE_FAILED', message)));
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
      if (error instanceof CallError) this.#refuseCounted(refusalOf(error));
      else this.#refuseInvalid(error);
    }
  }

  #sendAnswer({ body, jsonBytes }: JsonAnswer): void {
    if (jsonBytes === null) this.#send(200, ['Content-Type', 'application/json'], body);
    else
      this.#send(
        200,
        ['Content-Type', 'application/octet-stream', 'Inference-Header-Content-Length', String(jsonBytes)],
        body,
      );
  }

  #send(status: number, headers: string[], body: Buffer): void {
    const coding = body.length < minCompressedBytes ? null : acceptedCoding(this.#header('accept-encoding'));
    if (coding !== null) void this.#sendCompressed(status, headers, body, coding);
    else {
      headers.push('Content-Length', String(body.length));
      this.#write(status, headers, body);
    }
  }

  async #sendCompressed(status: number, headers: string[], body: Buffer, coding: Coding): Promise<void> {
    const bytes = await compress(coding, body);
    headers.push('Content-Length', String(bytes.length), 'Content-Encoding', coding, 'Vary', 'Accept-Encoding');
    this.#write(status, headers, bytes);
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
    if (error instanceof InvalidMessage) this.#refuseCounted(refusalOf(failure('BAD_INPUT', error.message)));
    else {
      const message = error instanceof Error ? error.message : 'the request could not be served';
      this.refuse(refusalOf(failure('INFERENCE_FAILED', message)));
    }
  }

  /** Refuses it, and has it counted: no model has seen it. */
  #refuseCounted(refusal: Refusal): void {
    const { reason, message, retryAfterMs = 0 } = refusal;
    if (reason !== null && reason !== 'PAYLOAD_TIMEOUT')
      this.#connection.calls.refused(this.#match?.model ?? '', { reason, message, retryAfterMs });
    this.refuse(refusal);
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
