// A thread that holds one model and runs one batch at a time.

import { parentPort, workerData } from 'node:worker_threads';
import { runningCode } from '../../code.js';
import { textOfThrown } from '../../thrown.js';
import { loadModel } from '../backends/load.js';
import { warmUp } from '../warm-up.js';
import { type FromThread, type ThreadBoot, type ToThread, tells } from './messages.js';
import { packReplies, unpackRows } from './packing.js';

const port = parentPort;
if (port === null) throw new Error('this file runs as a thread');
const { source, known, maxBatchSize, curve, shared } = workerData as ThreadBoot;
const { dlopen } = process as unknown as { dlopen(...args: unknown[]): void };
Object.assign(process, {
  dlopen: (...args: unknown[]) => {
    Atomics.add(shared, tells.nativeLibraries, 1);
    dlopen.apply(process, args);
  },
});
const onLot = (): void => void Atomics.add(shared, tells.lots, 1);
const send = (message: FromThread, transfer: ArrayBuffer[] = []): void => port.postMessage(message, transfer);

// A model that cannot be loaded or run ends the thread with its error, which the host receives.
const model = await loadModel(source, maxBatchSize, known);
const { inputBytes, outputBytes, fixedRows, runsAloneBecause, plan, description, sample } = model;

port.on('message', async (message: ToThread) => {
  if (message.kind === 'close') {
    await model.close();
    process.exit(0);
  }
  const { rows } = message;
  const lent = rows.isLent ? rows.bytes : null;
  try {
    const { packed, transfer } = packReplies(await model.run(unpackRows(rows), onLot));
    // Replies in the memory of the rows go back as replies.
    if (lent === null || transfer.includes(lent)) send({ kind: 'replies', replies: packed, lent: null }, transfer);
    else send({ kind: 'replies', replies: packed, lent }, [...transfer, lent]);
  } catch (error) {
    send({ kind: 'failed', message: textOfThrown(error), lent }, lent === null ? [] : [lent]);
  }
});
const told = { inputBytes, outputBytes, fixedRows, runsAloneBecause, plan, description, sample };
send({ kind: 'ready', code: runningCode, model: told, warmUp: await warmUp(model, curve) });
