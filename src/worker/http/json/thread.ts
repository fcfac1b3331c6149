// Reads and writes large JSON, one task after the other: see codec.ts.

import { parentPort } from 'node:worker_threads';
import { runningCode } from '../../../code.js';
import { InvalidMessage } from '../../../protocol/invalid-message.js';
import { decodeJsonRequest } from '../../../protocol/oip/json/request.js';
import { encodeJsonAnswer } from '../../../protocol/oip/json/response.js';
import { textOfThrown } from '../../../thrown.js';
import { type JsonResult, type JsonTask, movable, type ThreadReady } from './tasks.js';

const port = parentPort;
if (port === null) throw new Error('this file runs as a thread');

function run(task: JsonTask): readonly [JsonResult, ArrayBuffer[]] {
  try {
    if (task.kind === 'encode') {
      const answer = encodeJsonAnswer(task.answer, task.wanted);
      return [{ kind: 'encoded', answer }, movable([answer.body])];
    }
    const { body, jsonBytes, asked } = task;
    const bytes = Buffer.from(body.buffer, body.byteOffset, body.byteLength);
    const call = decodeJsonRequest(bytes, jsonBytes, asked);
    return [{ kind: 'decoded', call }, movable(call.inputs.map(({ source }) => source))];
  } catch (error) {
    const kind = error instanceof InvalidMessage ? 'invalid' : 'failed';
    return [{ kind, message: textOfThrown(error) }, []];
  }
}

port.on('message', (task: JsonTask) => port.postMessage(...run(task)));
port.postMessage({ kind: 'ready', code: runningCode } satisfies ThreadReady);
