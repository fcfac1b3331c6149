// A thread that holds one model and runs one batch at a time.

import { parentPort, workerData } from 'node:worker_threads';
import { loadModel } from '../catalogue.js';
import { warmUp } from '../warm-up.js';
import type { FromThread, ThreadBoot, ToThread } from './messages.js';
import { packReplies, unpackRows } from './packing.js';

const port = parentPort;
if (port === null) throw new Error('this file runs as a thread');
const { source, maxBatchSize } = workerData as ThreadBoot;
const send = (message: FromThread, transfer: ArrayBuffer[] = []): void => port.postMessage(message, transfer);

// A model that cannot be loaded or run ends the thread with its reason; the host hears of it.
const model = await loadModel(source);
const { inputBytes, description } = model;

port.on('message', async (message: ToThread) => {
  if (message.kind === 'close') {
    await model.close();
    process.exit(0);
  }
  try {
    const { packed, transfer } = packReplies(await model.run(unpackRows(message.rows)));
    send({ kind: 'replies', replies: packed }, transfer);
  } catch (error) {
    send({ kind: 'failed', message: error instanceof Error ? error.message : String(error) });
  }
});
send({ kind: 'ready', inputBytes, description, warmUp: await warmUp(model, maxBatchSize) });
