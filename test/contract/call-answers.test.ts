// The way of a request from its tensors to those of its answer, with a real model inline or in a thread: through the
// signature, the batcher, retries and request groups.

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import { type Execution, ServedModel } from '#src/inference/served-model.js';
import { findVersion } from '#src/inference/versions.js';
import { Recorder } from '#src/metrics/recorder.js';
import type { InferCall } from '#src/protocol/oip/infer.js';
import { Deadlines } from '#src/serving/deadlines.js';
import { MemoryBudget } from '#src/serving/memory-budget.js';
import { ModelEndpoint } from '#src/serving/model-endpoint.js';
import { ReplyFlush } from '#src/serving/reply-flush.js';
import { CallModels } from '#src/worker/oip/call-models.js';
import { ConnectionCalls } from '#src/worker/oip/client-calls.js';
import type { CallFailure } from '#src/worker/oip/service.js';
import { ampleRuns } from '../support/batchers.js';
import { temporaryFolder } from '../support/folder.js';
import { callOf, counted, type NamedTensors, tensor, tensorsOf } from '../support/infer-calls.js';
import { type GraphSpec, writeOnnx } from '../support/onnx-writer.js';
import { session } from '../support/session.js';
import { alone, node, stateful, strings } from '../support/tensor-kinds.js';

/** Columns with a number of 1000 or more are left out of y: no proof can know of those. */
const small: GraphSpec = {
  inputs: [{ name: 'x', dtype: 'float32', shape: ['b', 3] }],
  outputs: [{ name: 'y', dtype: 'float32', shape: null }],
  constants: [{ name: 'limit', shape: [1], values: Float32Array.of(1000) }],
  nodes: [
    node('ReduceMax', 'x', 'most', { axes: [0], keepdims: 0 }),
    node('Less', 'most limit', 'isSmall'),
    node('Compress', 'x isSmall', 'y', { axis: 1 }),
  ],
};

for (const execution of ['inline', 'thread'] as const satisfies readonly Execution[])
  describe(`a request to a model that runs ${execution}`, () => {
    const opened: ServedModel[] = [];
    afterEach(async () => {
      for (const served of opened.splice(0)) await served.close();
    });

    /** Asks a model, all in one turn. */
    async function asker(
      graph: GraphSpec,
    ): Promise<(calls: readonly InferCall[]) => Promise<readonly (NamedTensors | CallFailure)[]>> {
      const path = join(temporaryFolder(), 'm.onnx');
      writeFileSync(path, writeOnnx(graph));
      const served = await ServedModel.open(
        {
          ...{ maxBatchSize: 8, maxQueue: 100, maxQueueDelayMs: 0, deadlineMs: 0, retryRows: true, ...ampleRuns },
          ...{ threads: 1, hangTimeoutMs: 60_000, loadTimeoutMs: 60_000, maxHungThreads: 4, inlineLimitMs: 1000 },
          source: { name: 'm', backend: 'onnx', responseSize: 1, settings: {}, session, batchTolerance: 1e-4 },
          execution,
          admit: () => {},
        },
        findVersion(path, 'latest'),
        { onBatch: () => {}, onThreadCrash: () => {}, onThreadHang: () => {}, onThreadHangOver: () => {} },
      );
      opened.push(served);
      const recorder = new Recorder(['m']);
      const budget = new MemoryBudget(2 ** 30);
      const flush = new ReplyFlush(() => {});
      const endpoint = new ModelEndpoint({
        batcher: served.batcher,
        recorder: recorder.model('m'),
        limits: { maxPayloadBytes: 2 ** 20, maxInFlight: 100 },
        budget,
        flush,
      });
      const models = new CallModels(recorder, new Map([['m', served]]), new Map([['m', endpoint]]), () => 100);
      const client = { sendReplies: () => {}, resumeReading: () => {}, endTurn: () => {} };
      const serving = { budget, flush, deadlines: new Deadlines(), maxInFlight: 100 };
      const connection = new ConnectionCalls(models, serving, client, { models: ['m'], defaultModel: 'm' }, null);
      return (calls) =>
        Promise.all(
          calls.map(
            (call) =>
              new Promise<NamedTensors | CallFailure>((resolve) => {
                connection.infer(call, performance.now(), {
                  answered: ({ outputs }) => {
                    resolve(tensorsOf(outputs));
                    return true;
                  },
                  failed: resolve,
                });
              }),
          ),
        );
    }

    it('has its rows answered along their axes, together with those of others', async () => {
      const ask = await asker(stateful.graph);
      const calls = [1, 3].map((rows) =>
        callOf({
          x: counted('float32', [rows, 3]),
          state: tensor('float32', [2, rows, 3], Array(6 * rows).fill(rows)),
        }),
      );
      expect(await ask(calls)).to.deep.equal([
        { y: tensor('float32', [1, 3], [2, 4, 6]), next: tensor('float32', [2, 1, 3], [1, 2, 3, 1, 2, 3]) },
        {
          y: tensor('float32', [3, 3], [6, 8, 10, 12, 14, 16, 18, 20, 22]),
          next: tensor('float32', [2, 3, 3], [3, 4, 5, 6, 7, 8, 9, 10, 11, 3, 4, 5, 6, 7, 8, 9, 10, 11]),
        },
      ]);
    });

    it('gets outputs whose size depends on its data', async () => {
      const ask = await asker(alone.graph);
      const calls = [[1, 5, 2, 7], [9], [0, 0]].map((x) =>
        callOf({ x: tensor('float32', [x.length], x), least: tensor('float32', [], [4]) }),
      );
      expect(await ask(calls)).to.deep.equal([
        { places: tensor('int64', [1, 2], [1, 3]) },
        { places: tensor('int64', [1, 1], [0]) },
        { places: tensor('int64', [1, 0], []) },
      ]);
    });

    it('gets outputs whose size no dimension of a request has', async () => {
      const ask = await asker(strings.graph);
      const calls = [2, 1].map((rows) =>
        callOf({
          s: tensor('string', [rows, 2], ['a', 'é', '', 'd'].slice(0, 2 * rows)),
          k: counted('int64', [rows, 2]),
        }),
      );
      expect(await ask(calls)).to.deep.equal([
        {
          negative: tensor('int64', [2, 2], [0, -1, -2, -3]),
          twice: tensor('string', [2, 4], ['a', 'é', 'a', 'é', '', 'd', '', 'd']),
        },
        { negative: tensor('int64', [1, 2], [0, -1]), twice: tensor('string', [1, 4], ['a', 'é', 'a', 'é']) },
      ]);
    });

    it('gets the dimensions that it has alone, where a run that it shared failed', async () => {
      const ask = await asker(small);
      const calls = [
        [1, 2, 3],
        [4, 5000, 6],
      ].map((row) => callOf({ x: tensor('float32', [1, 3], row) }));
      expect(await ask(calls)).to.deep.equal([
        { y: tensor('float32', [1, 3], [1, 2, 3]) },
        { y: tensor('float32', [1, 2], [4, 6]) },
      ]);
      const both = callOf({ x: tensor('float32', [2, 3], [1, 2, 3, 4, 5000, 6]) });
      const [failure] = await ask([both]);
      expect(failure).to.include({ reason: 'INFERENCE_FAILED' });
      expect((failure as CallFailure).message).to.match(
        /"y" is \[1,3\] for one row of the request, and \[1,2\] for another/,
      );
    });

    it('is refused with what was expected and what came', async () => {
      const ask = await asker(small);
      const [failure] = await ask([callOf({ x: counted('float32', [1, 4]) })]);
      expect(failure).to.include({ reason: 'BAD_INPUT', message: 'input "x" should be FP32[-1,3], and is FP32[1,4]' });
    });
  });
