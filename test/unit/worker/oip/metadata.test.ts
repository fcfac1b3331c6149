import { expect } from 'chai';
import type { Backend } from '#src/inference/backends/load.js';
import type { ModelPlan } from '#src/inference/plan.js';
import { modelConfigResponse, modelMetadataResponse, serverMetadataResponse } from '#src/protocol/oip/messages.js';
import { decode, encode } from '#src/protocol/protobuf/messages.js';
import { modelConfigOf, modelMetadataOf, serverMetadata } from '#src/worker/oip/metadata.js';
import { ModelSignature } from '#src/worker/oip/signature.js';
import { inputPlan, outputPlan, planOf } from '../../../support/plans.js';
import * as kinds from '../../../support/tensor-kinds.js';

const served = (plan: ModelPlan | null, backend: Backend = 'onnx', maxQueueDelayMs = 0) => ({
  name: 'm',
  version: '3',
  signature: new ModelSignature({ plan, inputBytes: null, mostRows: 64, mostRunRows: 16 }),
  served: { plan, backend, maxQueueDelayMs },
});

/** As a client reads them from the wire. */
const metadataOf = (...args: Parameters<typeof served>) =>
  decode(modelMetadataResponse, encode(modelMetadataResponse, modelMetadataOf(served(...args))));
const configOf = (...args: Parameters<typeof served>) =>
  decode(modelConfigResponse, encode(modelConfigResponse, modelConfigOf(served(...args)))).config;

describe('what clients are told of a model', () => {
  const plan = planOf(
    [inputPlan('x', 'float32', ['b', 3]), inputPlan('k', 'int64', ['b', 'n'])],
    [outputPlan('y', 'bool', ['b', 2]), outputPlan('label', 'string', ['b'])],
  );

  it('is its metadata, with the batch in each shape', () => {
    expect(metadataOf(plan)).to.deep.equal({
      name: 'm',
      versions: ['3'],
      platform: 'onnxruntime_onnx',
      inputs: [
        { name: 'x', datatype: 'FP32', shape: [-1, 3] },
        { name: 'k', datatype: 'INT64', shape: [-1, -1] },
      ],
      outputs: [
        { name: 'y', datatype: 'BOOL', shape: [-1, 2] },
        { name: 'label', datatype: 'BYTES', shape: [-1] },
      ],
    });
  });

  it('is its configuration, in which shapes are those of a row', () => {
    const config = configOf(plan, 'onnx', 1.5);
    expect(config).to.include({ name: 'm', platform: 'onnxruntime_onnx', backend: 'onnxruntime', max_batch_size: 64 });
    expect(config?.input).to.deep.equal([
      { name: 'x', data_type: 'TYPE_FP32', dims: [3], optional: false },
      { name: 'k', data_type: 'TYPE_INT64', dims: [-1], optional: false },
    ]);
    expect(config?.output).to.deep.equal([
      { name: 'y', data_type: 'TYPE_BOOL', dims: [2] },
      { name: 'label', data_type: 'TYPE_STRING', dims: [] },
    ]);
    expect(config?.dynamic_batching).to.deep.equal({
      preferred_batch_size: [],
      max_queue_delay_microseconds: 1500,
    });
    expect(config?.model_transaction_policy).to.deep.equal({ decoupled: false });
  });

  it('has whole shapes and no batching where requests have no batch in front', () => {
    const perRow = planOf([inputPlan('x', 'float32', ['b'])], [outputPlan('y', 'float32', ['b'])]);
    for (const plan of [kinds.stateful.plan, kinds.alone.plan, perRow]) {
      const config = configOf(plan);
      expect(config?.max_batch_size).to.equal(0);
      expect(config?.dynamic_batching).to.equal(undefined);
      const { inputs } = metadataOf(plan);
      expect(config?.input.map(({ dims }) => dims)).to.deep.equal(inputs.map(({ shape }) => shape));
    }
    expect(metadataOf(kinds.stateful.plan).inputs.map(({ shape }) => shape)).to.deep.equal([
      [-1, 3],
      [2, -1, 3],
    ]);
  });

  it('prefers batches of the size that the model has', () => {
    const fixed = planOf(
      [{ ...inputPlan('x', 'int32', [8, 2], 0), requestDims: [1, 2] }],
      [{ ...outputPlan('y', 'int32', [8, 2], 0), requestDims: [1, 2] }],
      { fixedBatch: 8 },
    );
    expect(configOf(fixed)?.dynamic_batching?.preferred_batch_size).to.deep.equal([8]);
  });

  it('leaves out what config gives, and outputs that are not returned', () => {
    const { inputs } = metadataOf(kinds.constant.plan);
    expect(inputs.map(({ name }) => name)).to.deep.equal(['x']);
    expect(configOf(kinds.constant.plan)?.input.map(({ name }) => name)).to.deep.equal(['x']);
  });

  it('is one input of payloads where only the model understands them', () => {
    for (const [backend, platform] of [
      ['module', 'nodejs_module'],
      ['dummy', 'dummy'],
    ] as const) {
      expect(metadataOf(null, backend)).to.deep.include({
        platform,
        inputs: [{ name: 'payload', datatype: 'BYTES', shape: [-1] }],
        outputs: [{ name: 'reply', datatype: 'BYTES', shape: [-1] }],
      });
      expect(configOf(null, backend)).to.include({ max_batch_size: 0 });
    }
  });
});

describe('what clients are told of the server', () => {
  it('is its name, its version, and which extensions it has', () => {
    const { name, version, extensions } = decode(
      serverMetadataResponse,
      encode(serverMetadataResponse, serverMetadata()),
    );
    expect(name).to.equal('ml-tcp-server');
    expect(version).to.match(/^\d+\.\d+\.\d+/);
    // perf_analyzer asks for statistics where they are named.
    expect(extensions).to.include.members(['statistics', 'model_configuration', 'binary_tensor_data']);
    expect(extensions.filter((one) => one.includes('shared_memory'))).to.deep.equal([]);
  });
});
