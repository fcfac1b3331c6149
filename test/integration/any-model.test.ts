// Models of every kind behind a real server: whatever their shapes, each request gets what ONNX Runtime answers to it
// alone. `npm run matrix` asks more models, among them large ones.

import { expect } from 'chai';
import { loadOnnxModel } from '#src/inference/backends/onnx.js';
import { noOverrides } from '#src/inference/overrides.js';
import { answersOfNode, answersOfPython, type Case, ownCases, teamCase, wheelCase } from '../support/matrix/cases.js';
import { Python, teamModels, whyNoPython } from '../support/matrix/python.js';
import { ask, MatrixServer, type Served } from '../support/matrix/serve.js';
import { isThere, wheelModels } from '../support/matrix/wheel-models.js';
import { endProcesses } from '../support/processes.js';
import { session } from '../support/session.js';
import { skip } from '../support/skip.js';

const own = ownCases();
const tolerance = 1e-4;

/** What crosses to threads in different ways: rows, tensors of any length, what is shared, texts, several outputs. */
const inThreads = own.filter(({ name }) =>
  /^(rows of one size|two inputs of one dynamic length|a scalar beside|texts beside|boxes|a classifier with a map of texts|a constant|several rows)/.test(
    name,
  ),
);

for (const [execution, cases] of [
  ['inline', own],
  ['thread', inThreads],
] as const)
  describe(`a request is answered as if it were alone, to a model that runs ${execution}`, function () {
    this.timeout(60_000);
    let server: MatrixServer;
    before(async () => {
      server = new MatrixServer(cases.map((one) => ({ ...one, config: { ...one.config, execution } })));
      expect(await server.isReady(), server.output).to.equal(true);
    });
    after(endProcesses);

    for (const one of cases)
      it(`with ${one.name}`, async () => {
        const isJoined = Object.values(one.own.axes).some((axis) => typeof axis === 'number');
        const answers = (await answersOfNode(one)) ?? [];
        const { faults, replies } = await ask(server, { ...one, answers, tolerance: isJoined ? tolerance : 'exact' });
        expect(faults).to.deep.equal([]);
        expect(replies).to.be.at.least(one.requests.length * 6);
      });

    it('without a shared run that fails, so that its requests must be run again', async () => {
      for (const { name, requests } of cases) {
        const { retried_rows } = await server.modelAfter(name, requests.length * 6);
        expect(retried_rows, name).to.equal(0);
      }
    });
  });

describe('the plan of a model', () => {
  for (const { name, file, config, own: expected } of own)
    it(`tells the batch axis of each tensor, with ${name}`, async () => {
      const overrides = { ...noOverrides, ...config };
      const model = await loadOnnxModel(file, session, { maxBatchSize: 256, tolerance, overrides });
      await model.close();
      const { inputs = [], outputs = [], runsAloneBecause } = model.plan ?? {};
      const tensors = [...inputs, ...outputs.filter(({ isReturned }) => isReturned)];
      const axes = Object.fromEntries(tensors.map((one) => [one.name, one.batchAxis]));
      expect(axes).to.deep.equal(expected.axes);
      const isJoined = Object.values(axes).some((axis) => typeof axis === 'number');
      expect(runsAloneBecause === null, String(runsAloneBecause)).to.equal(isJoined);
    });
});

describe('a model that others made', () => {
  const missing = whyNoPython();
  let python: Python;
  let server: MatrixServer;
  let cases: readonly Case[] = [];
  before(async function () {
    this.timeout(150_000);
    if (missing !== null) skip(this, missing);
    python = new Python();
    cases = [...teamModels(), ...wheelModels.filter((model) => model.isQuick && isThere(model))].map((model) =>
      'path' in model ? wheelCase(model) : teamCase(model),
    );
    server = new MatrixServer(cases);
    expect(await server.isReady(), server.output).to.equal(true);
  });
  after(async () => {
    await endProcesses();
    await python?.end();
  });

  it('answers as it does in Python, alone', async function () {
    this.timeout(150_000);
    const wrong: string[] = [];
    for (const one of cases) {
      const model: Served = { ...one, answers: await answersOfPython(one, python), tolerance };
      const { faults } = await ask(server, model);
      wrong.push(...faults.map((fault) => `${one.name}: ${fault}`));
    }
    expect(wrong).to.deep.equal([]);
    expect(cases.length).to.be.at.least(20);
  });
});
