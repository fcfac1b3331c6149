import { expect } from 'chai';
import fc from 'fast-check';
import { cutReport, type ModelReport, reportOf, shareOf } from '#src/inference/model-report.js';
import type { ModelPlan } from '#src/inference/plan.js';
import { hugePlan, inputPlan, modelPlan, outputPlan, sileroPlan, textPlan } from '../../support/plan-examples.js';

const report = (plan: ModelPlan | null, maxBytes: number): ModelReport =>
  reportOf({ version: '3', signature: 'onnx …', runsAloneBecause: plan?.runsAloneBecause ?? null, plan }, maxBytes);
const bytesOf = (value: unknown): number => Buffer.byteLength(JSON.stringify(value));

describe('what is told of a model', () => {
  it('is all of its plan where there is room for it', () => {
    for (const plan of [sileroPlan, textPlan]) {
      const { inputs, outputs, fixedBatch, notes } = plan;
      const counts = { inputCount: inputs.length, outputCount: outputs.length, isCut: false };
      expect(report(plan, 4096).plan).to.deep.equal({ inputs, outputs, fixedBatch, notes, ...counts });
    }
    expect(report(null, 4096)).to.deep.equal({ version: '3', signature: 'onnx …', runsAloneBecause: null, plan: null });
  });

  it('is the first tensors and labels of a model with very many, and says how many there are', () => {
    const { plan } = report(hugePlan, 4096);
    expect(plan).to.include({ inputCount: 500, outputCount: 1, isCut: true });
    expect(plan?.inputs.length).to.be.within(5, 40);
    expect(plan?.inputs[0]?.dims).to.deep.equal(['batch', 1]);
    expect(plan?.outputs[0]?.labels).to.deep.equal(Array.from({ length: 20 }, (_, i) => `class ${i}`));
    const few = cutReport(report(hugePlan, 1 << 20), 4096);
    expect(few.plan?.inputs, 'cut twice is cut once').to.deep.equal(plan?.inputs);
  });

  it('never takes more bytes than it may, whatever names, labels and reasons the model has', () => {
    const text = fc.string({ maxLength: 500, unit: 'binary' });
    const dims = fc.array(fc.oneof(text, fc.nat()), { maxLength: 40 });
    const plans = fc.record({
      inputs: fc.array(fc.record({ name: text, dims }), { maxLength: 60 }),
      outputs: fc.array(
        fc.record({ name: text, dims, labels: fc.option(fc.array(text, { maxLength: 60 }), { nil: null }) }),
        { maxLength: 60 },
      ),
      notes: fc.array(text, { maxLength: 8 }),
      runsAloneBecause: fc.option(text, { nil: null }),
    });
    fc.assert(
      fc.property(plans, fc.integer({ min: 4096, max: 20_000 }), (fields, maxBytes) => {
        const plan = modelPlan({
          ...fields,
          inputs: fields.inputs.map(inputPlan),
          outputs: fields.outputs.map(outputPlan),
        });
        const found = report(plan, maxBytes);
        expect(bytesOf(found)).to.be.at.most(maxBytes);
        expect(found.plan).to.include({ inputCount: plan.inputs.length, outputCount: plan.outputs.length });
      }),
    );
  });

  it('is little of each where there are many models', () => {
    expect(shareOf(32_768, 1, 4096)).to.equal(4096);
    expect(shareOf(32_768, 100, 4096)).to.equal(327);
    const all = Array.from({ length: 100 }, () => report(hugePlan, shareOf(32_768, 100, 4096)));
    expect(bytesOf(all)).to.be.at.most(32_768);
  });
});
