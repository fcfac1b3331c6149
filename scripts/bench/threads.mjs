// What a slow model does to its neighbours, and what a crossing to its thread costs.

import { Piscina } from 'piscina';
import { rowsOf } from '../../build/test/support/rows.js';
import { ThreadedModel } from '../../dist/inference/threads/host.js';
import { packRows } from '../../dist/inference/threads/packing.js';
import { load, metricsOf, startServer } from './programs.mjs';
import { median } from './throughput.mjs';

const url = (file) => new URL(file, import.meta.url);

/** A model that takes 50 ms a run beside the dummy, on one worker. */
export async function neighbours(folder, { seconds }) {
  const path = url('../../test/support/models/busy.mjs').pathname;
  const results = {};
  for (const execution of ['inline', 'thread']) {
    const config = {
      models: [{ name: 'slow', backend: 'module', path, settings: { ms: 50 }, execution }],
      server: { responseSize: 4 },
      listeners: [
        { host: '127.0.0.1', port: 0, model: 'slow' },
        { host: '127.0.0.1', port: 0, model: 'dummy' },
      ],
    };
    const server = await startServer(folder, config, 1);
    const [slow, dummy] = server.ports;
    const settings = { connections: 1, depth: 1, payloadBytes: 6, seconds };
    // The worker's gauge covers the last 10 seconds: it is read when all of them were under this load.
    const busy = load({ ...settings, port: slow, replyBytes: 6, seconds: 12 });
    const quick = await load({ ...settings, port: dummy, replyBytes: 4, seconds: 11 });
    const { workers } = await metricsOf(server);
    await busy;
    results[execution] = { quickP99Ms: quick.p99Ms, loopDelayP99Ms: workers[0].event_loop_delay_p99_ms };
    await server.stop();
  }
  return results;
}

const batch = rowsOf(Array.from({ length: 32 }, () => Buffer.alloc(256)));

const calls = 1000;

async function microsecondsEach(call) {
  const begin = performance.now();
  for (let i = 0; i < calls; i++) await call();
  return ((performance.now() - begin) * 1000) / calls;
}

/** A round trip of 32 rows of 256 bytes without any computation: with our threads, and with those of a pool library. */
export async function crossings({ rounds }) {
  const source = { name: 'dummy', backend: 'dummy', path: '', responseSize: 4, settings: {}, batchTolerance: 1e-4 };
  const threaded = await ThreadedModel.open(source, {
    threads: 1,
    maxBatchSize: 32,
    curve: { mostRows: 32, longestMs: 1000, memoryBytes: 2 ** 30 },
    hangTimeoutMs: 60_000,
    loadTimeoutMs: 60_000,
    maxHungThreads: 1,
    onCrash: () => {},
    onHang: () => {},
    onHangOver: () => {},
  });
  const pool = new Piscina({ filename: url('./pool-task.mjs').href, minThreads: 1, maxThreads: 1 });
  const ours = [];
  const theirs = [];
  for (let round = 0; round < 5 * rounds; round++) {
    ours.push(await microsecondsEach(() => threaded.run(batch)));
    theirs.push(
      await microsecondsEach(() => {
        const packed = packRows(batch, null);
        return pool.run(packed, { transferList: [packed.bytes, packed.lengths.buffer] });
      }),
    );
  }
  await Promise.all([threaded.close(), pool.destroy()]);
  return { oursUs: median(ours), poolUs: median(theirs) };
}
