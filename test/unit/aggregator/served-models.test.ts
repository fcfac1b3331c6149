import { expect } from 'chai';
import { ClusterView } from '#src/aggregator/cluster-view.js';
import { servedModels } from '#src/aggregator/served-models.js';
import type { ModelReport } from '#src/inference/model-report.js';
import { reportOf } from '#src/inference/model-report.js';
import type { ModelPlan } from '#src/inference/plan.js';
import type { NodeRecord, WorkerRecord } from '#src/metrics/snapshot.js';
import { NodeRecordKeeper } from '#src/primary/metrics/node-record.js';
import { hugePlan, imagesPlan, rowPlan, sileroPlan } from '../../support/plan-examples.js';
import { modelGauges, snapshotOf, workerRecord } from '../../support/records.js';

const reportedAs = (plan: ModelPlan | null, version = 'unversioned'): ModelReport =>
  reportOf(
    { version, signature: 'onnx …', runsAloneBecause: plan?.runsAloneBecause ?? null, plan },
    Number.POSITIVE_INFINITY,
  );

function node(name: string, reports: Readonly<Record<string, ModelReport>>): NodeRecord {
  const keeper = new NodeRecordKeeper({ node: name, run: `run of ${name}`, version: '0.0.0' });
  keeper.learnModels(reports);
  return keeper.snapshot();
}

function worker(name: string, slot: number, models: Readonly<Record<string, string>>): WorkerRecord {
  const record = workerRecord({ node: name, run: `run of ${name}`, slot, incarnation: slot + 1 });
  const gauges = Object.entries(models).map(([model, version]) => [model, modelGauges(version)]);
  return { ...record, gauges: { ...record.gauges, models: Object.fromEntries(gauges) } };
}

describe('GET /api/models', () => {
  it('tells of each model its tensors, their batch axes, and the nodes that serve it, once for all that serve the same', () => {
    const reports = { vad: reportedAs(sileroPlan), own: reportedAs(null) };
    const { models } = servedModels({
      nodes: [node('b', reports), node('a', reports)],
      workers: ['b', 'a'].flatMap((name) =>
        [0, 1].map((slot) => worker(name, slot, { vad: 'unversioned', own: 'unversioned' })),
      ),
    });
    expect(models.map(({ name }) => name)).to.deep.equal(['own', 'vad']);
    const [own, vad] = models;
    expect(own?.served).to.have.lengthOf(1);
    expect(own?.served[0]).to.deep.include({ nodes: ['a', 'b'], workers: 4, plan: null, signature: 'onnx …' });
    expect(vad?.served).to.have.lengthOf(1);
    const { plan, ...about } = vad?.served[0] ?? { plan: null };
    expect(about).to.deep.equal({
      version: 'unversioned',
      nodes: ['a', 'b'],
      workers: 4,
      execution: ['inline'],
      max_rows: 256,
      max_rows_because: ['auto takes no more'],
      runs_alone_because: null,
      signature: 'onnx …',
    });
    expect(plan).to.deep.include({ fixed_batch: null, notes: [], input_count: 3, output_count: 2, is_cut: false });
    expect(plan?.inputs.slice(1)).to.deep.equal([
      {
        name: 'state',
        dtype: 'float32',
        dims: [2, 'batch', 128],
        batch_axis: 1,
        request_dims: [2, 1, 128],
        is_constant: false,
      },
      { name: 'sr', dtype: 'int64', dims: [], batch_axis: 'shared', request_dims: [], is_constant: true },
    ]);
    expect(plan?.outputs[0]).to.deep.equal({
      name: 'output',
      dtype: 'float32',
      dims: ['batch', 1],
      batch_axis: 0,
      request_dims: [1, 1],
      is_returned: true,
      labels: null,
    });
  });

  it('tells nodes apart that serve something else: another version, or one that has to run alone there', () => {
    const alone = { ...rowPlan, runsAloneBecause: 'its rows differ on this processor' };
    const { models } = servedModels({
      nodes: [node('a', { m: reportedAs(rowPlan, '3') }), node('b', { m: reportedAs(alone, '3') })],
      workers: [
        worker('a', 0, { m: '3' }),
        worker('a', 1, { m: '2' }),
        worker('b', 0, { m: '3' }),
        worker('unknown', 0, { m: '3' }),
      ],
    });
    expect(
      models[0]?.served.map(({ version, nodes, runs_alone_because: because, plan }) => [
        version,
        nodes,
        because,
        plan !== null,
      ]),
    ).to.deep.equal([
      ['3', ['a'], null, true],
      ['2', ['a'], null, false],
      ['3', ['b'], 'its rows differ on this processor', true],
      ['3', ['unknown'], null, false],
    ]);
  });

  it('leaves out what is gone', () => {
    const view = new ClusterView(250);
    const records = [node('a', { m: reportedAs(rowPlan) }), worker('a', 0, { m: 'unversioned' })];
    expect(servedModels(view.update(snapshotOf(records), 0).publishing).models).to.have.lengthOf(1);
    expect(servedModels(view.update(snapshotOf(records, 60_000), 60_000).publishing).models).to.deep.equal([]);
  });

  it('costs a record that goes out several times a second no more than some kilobytes', () => {
    const one = node('a', { m: reportedAs(hugePlan) });
    expect(JSON.stringify(one.models).length).to.be.within(1000, 4200);
    const { plan } = servedModels({ nodes: [one], workers: [worker('a', 0, { m: 'unversioned' })] }).models[0]
      ?.served[0] ?? { plan: null };
    expect(plan).to.include({ input_count: 500, is_cut: true });
    const many = Array.from({ length: 50 }, (_, i) => [`m${i}`, reportedAs(i % 2 === 0 ? hugePlan : imagesPlan)]);
    expect(JSON.stringify(node('a', Object.fromEntries(many)).models).length).to.be.at.most(34_000);
  });
});
