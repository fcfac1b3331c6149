// JSON without a pause for anybody else: what takes about a millisecond at the most is read and written at once, and the
// rest in a thread. A megabyte of numbers takes 3 to 15 ms, in which the event loop would serve a thousand requests. The
// thread starts with the first task for it, and is replaced when it dies.

import { Worker } from 'node:worker_threads';
import { runningCode } from '../../../code.js';
import { InvalidMessage } from '../../../protocol/invalid-message.js';
import type { InferAnswer, InferCall, InferTensor } from '../../../protocol/oip/infer.js';
import { type Asked, decodeJsonRequest } from '../../../protocol/oip/json/request.js';
import {
  checkJsonAnswer,
  encodeJsonAnswer,
  isBinaryOutput,
  type JsonAnswer,
} from '../../../protocol/oip/json/response.js';
import { toError } from '../../../thrown.js';
import { type JsonResult, type JsonTask, movable, type ThreadReady, type Wanted } from './tasks.js';

/** Of JSON to read: some 0.3 to 0.8 ms. */
const maxDecodedAtOnce = 128 * 1024;
/** Of a tensor to write: a number of 4 bytes makes some 18 bytes of JSON, and the whole 0.4 to 0.9 ms. */
const maxEncodedAtOnce = 24 * 1024;

interface Pending {
  readonly task: JsonTask;
  resolve(result: JsonResult): void;
  reject(error: Error): void;
}

export class JsonCodec {
  #worker: Worker | null = null;
  #isReady = false;
  /** In the order of the answers. */
  #pending: Pending[] = [];
  /** The files of the thread are of another version than this process: they are not used. */
  #isReplaced = false;

  /** @returns whether `decode` is to be preferred to `decodeJsonRequest` */
  isLongToDecode(jsonBytes: number): boolean {
    return jsonBytes > maxDecodedAtOnce && !this.#isReplaced;
  }

  /** Rejects with InvalidMessage. @param body is handed over */
  async decode(body: Buffer, jsonBytes: number, asked: Asked): Promise<InferCall> {
    const result = await this.#run({ kind: 'decode', body, jsonBytes, asked });
    if (result.kind === 'decoded') return result.call;
    throw new Error('the thread has answered something else');
  }

  isLongToEncode(answer: InferAnswer, wanted: Wanted): boolean {
    if (this.#isReplaced) return false;
    let bytes = 0;
    for (const output of answer.outputs) if (!isBinaryOutput(output, wanted)) bytes += output.end - output.start;
    return bytes > maxEncodedAtOnce;
  }

  /**
   * Copies what it needs of the answer before it returns. Throws InvalidMessage when JSON cannot say it; the promise
   * rejects only when the thread dies.
   */
  encode(answer: InferAnswer, wanted: Wanted): Promise<JsonAnswer> {
    checkJsonAnswer(answer, wanted);
    const outputs = answer.outputs.map(({ spec, source, start, end }): InferTensor => {
      const copy = Uint8Array.prototype.slice.call(source, start, end);
      return {
        spec,
        source: new Uint8Array(copy.buffer, copy.byteOffset, copy.byteLength),
        start: 0,
        end: end - start,
      };
    });
    return this.#encode({ kind: 'encode', answer: { ...answer, outputs }, wanted });
  }

  /** Ends the thread; what it was doing is rejected. */
  async close(): Promise<void> {
    await this.#worker?.terminate();
  }

  async #encode(task: JsonTask): Promise<JsonAnswer> {
    const result = await this.#run(task);
    if (result.kind !== 'encoded') throw new Error('the thread has answered something else');
    const { body, jsonBytes } = result.answer;
    return { body: Buffer.from(body.buffer, body.byteOffset, body.byteLength), jsonBytes };
  }

  async #run(task: JsonTask): Promise<JsonResult> {
    const result = await new Promise<JsonResult>((resolve, reject) => {
      this.#pending.push({ task, resolve, reject });
      this.#worker ??= this.#start();
      if (this.#isReady) this.#post(this.#worker, task);
    });
    if (result.kind === 'invalid') throw new InvalidMessage(result.message);
    if (result.kind === 'failed') throw new Error(result.message);
    return result;
  }

  #post(worker: Worker, task: JsonTask): void {
    const views = task.kind === 'decode' ? [task.body] : task.answer.outputs.map(({ source }) => source);
    worker.postMessage(task, movable(views));
  }

  #start(): Worker {
    const worker = new Worker(new URL('./thread.js', import.meta.url));
    let reason: unknown = null;
    worker.on('message', (message: JsonResult | ThreadReady) => {
      if (message.kind === 'ready') this.#begin(worker, message.code);
      else this.#pending.shift()?.resolve(message);
    });
    worker.on('error', (error) => {
      reason = error;
    });
    worker.once('exit', (code) => {
      this.#worker = null;
      this.#isReady = false;
      const error = reason === null ? new Error(`the thread for JSON exited with code ${code}`) : toError(reason);
      for (const { reject } of this.#pending.splice(0)) reject(error);
    });
    worker.unref();
    return worker;
  }

  #begin(worker: Worker, code: string): void {
    this.#isReady = true;
    if (code === runningCode) {
      for (const { task } of this.#pending) this.#post(worker, task);
      return;
    }
    this.#isReplaced = true;
    for (const { task, resolve, reject } of this.#pending.splice(0)) {
      try {
        resolve(runHere(task));
      } catch (error) {
        reject(toError(error));
      }
    }
    void worker.terminate();
  }
}

function runHere(task: JsonTask): JsonResult {
  if (task.kind === 'encode') return { kind: 'encoded', answer: encodeJsonAnswer(task.answer, task.wanted) };
  const body = Buffer.from(task.body.buffer, task.body.byteOffset, task.body.byteLength);
  return { kind: 'decoded', call: decodeJsonRequest(body, task.jsonBytes, task.asked) };
}
