// Calls on frames: what clients can ask, and what they are told when it goes wrong.

import { rmSync, writeFileSync } from 'node:fs';
import { expect } from 'chai';
import { encodeFrame } from '#src/protocol/frames.js';
import { CallClient, floatsRequest, textsOf, textsRequest } from '../support/call-client.js';
import { temporaryFolder } from '../support/folder.js';
import { endProcesses, root } from '../support/processes.js';
import { encodeByOthers } from '../support/protos.js';
import { RawClient } from '../support/raw-client.js';
import { TestServer } from '../support/server.js';
import { until } from '../support/until.js';

const folder = temporaryFolder();
let configs = 0;

/** As long as it is there, the model held does not answer. */
const gate = `${folder}/gate`;
const close = (): void => writeFileSync(gate, '');
const open = (): void => rmSync(gate, { force: true });

/** Calls to digits, to a module that echoes, and to one that does so while the gate is open. */
function startServer(server: object = {}, listener: object = {}): TestServer {
  const file = `${folder}/${++configs}.json`;
  const of = (module: string): string => `${root}test/support/models/${module}.mjs`;
  const models = [
    { name: 'digits', backend: 'onnx', path: 'config/models/digits' },
    { name: 'echo', backend: 'module', path: of('echo') },
    { name: 'held', backend: 'module', path: of('gate'), execution: 'thread', settings: { gate } },
  ];
  const listeners = [{ port: 0, protocol: 'calls', ...listener }];
  writeFileSync(file, JSON.stringify({ models, server, listeners, cluster: { workers: 1 } }));
  return new TestServer({ args: ['--config', file], hasListeners: true });
}

describe('calls on frames', () => {
  afterEach(async () => {
    open();
    await endProcesses();
  });

  it('are answered with tensors, several rows at once as each alone, and matched by number', async () => {
    const server = startServer();
    const client = await CallClient.connect(await server.port());
    const rows = Float32Array.from({ length: 3 * 64 }, (_, i) => i % 17);
    const together = await client.ask({ infer: { ...floatsRequest('digits', 'pixels', [3, 64], rows), id: 'mine' } });
    expect(together).to.deep.include({ code: 0, reason: '' });
    const { infer } = together;
    expect(infer).to.deep.include({ model_name: 'digits', model_version: '1', id: 'mine' });
    expect(infer?.outputs.map(({ name, datatype, shape }) => [name, datatype, shape])).to.deep.equal([
      ['probabilities', 'FP32', ['3', '10']],
    ]);
    const numbers = [0, 1, 2].map((row) =>
      client.send({ infer: floatsRequest('digits', 'pixels', [1, 64], rows.subarray(64 * row, 64 * row + 64)) }),
    );
    const alone = [];
    for (const number of numbers.reverse()) alone.unshift((await client.reply(number)).infer?.raw_output_contents[0]);
    expect(Buffer.concat(alone as Buffer[])).to.deep.equal(infer?.raw_output_contents[0]);
    const metrics = await server.metricsWhen('four requests', ({ total_requests }) => total_requests === 4);
    expect(metrics.models.find(({ name }) => name === 'digits')).to.include({ answered: 4 });
  });

  it('that fail are told why: what was expected, what came, and which models there are', async () => {
    const server = startServer();
    const client = await CallClient.connect(await server.port());
    const asked = [
      floatsRequest('digits', 'pixels', [1, 63], new Float32Array(63)),
      floatsRequest('digits', 'pixel', [1, 64], new Float32Array(64)),
      { ...floatsRequest('digits', 'pixels', [1, 64], new Float32Array(64)), outputs: [{ name: 'labels' }] },
      floatsRequest('digits', 'pixels', [1, 64], new Float32Array(63)),
      floatsRequest('cats', 'pixels', [1, 64], new Float32Array(64)),
      { ...floatsRequest('digits', 'pixels', [1, 64], new Float32Array(64)), model_version: '7' },
    ];
    const replies = [];
    for (const infer of asked) replies.push(await client.ask({ infer }));
    expect(replies.map(({ code, reason }) => `${code} ${reason}`)).to.deep.equal([
      '3 BAD_INPUT',
      '3 BAD_INPUT',
      '3 BAD_INPUT',
      '3 BAD_INPUT',
      '5 MODEL_NOT_FOUND',
      '5 MODEL_NOT_FOUND',
    ]);
    const messages = replies.map(({ message }) => message);
    expect(messages[0]).to.include('FP32[-1,64]').and.include('FP32[1,63]');
    expect(messages[1]).to.include('"pixels"').and.include('"pixel"');
    expect(messages[2]).to.include('"labels"').and.include('"probabilities"');
    expect(messages[3]).to.include('256 bytes').and.include('252');
    expect(messages[4]).to.include("'cats'").and.include('"digits"');
    expect(messages[5]).to.include('"7"').and.include('"1"');
    const metrics = await server.metricsWhen('the refusals', ({ errors }) => errors >= 4);
    expect(metrics.audit_imbalance).to.equal(0);
    const unknown = 'mltcp_requests_unroutable_total{reason="unknown_model"} 2\n';
    await until(unknown, async () => (await server.prometheus()).includes(unknown));
  });

  it('have a time in which they are wanted, and can be cancelled, while others are answered', async () => {
    const server = startServer();
    const client = await CallClient.connect(await server.port());
    close();
    const late = client.sendTexts('held', ['late'], { timeout_us: 50_000 });
    expect(await client.reply(late)).to.include({ code: 4, reason: 'DEADLINE_EXCEEDED' });
    const cancelled = client.sendTexts('held', ['cancelled']);
    client.send({ cancel: {} }, cancelled);
    expect(await client.reply(cancelled)).to.include({ code: 1, reason: 'CANCELLED' });
    const waits = client.sendTexts('held', ['waits']);
    expect(textsOf(await client.reply(client.sendTexts('echo', ['overtakes'])))).to.deep.equal(['overtakes']);
    open();
    expect(textsOf(await client.reply(waits))).to.deep.equal(['waits']);
    const metrics = await server.metricsWhen(
      'all outcomes',
      ({ total_requests, in_flight }) => total_requests === 4 && in_flight === 0,
    );
    const held = metrics.models.find(({ name }) => name === 'held');
    expect(held).to.include({ expired: 1, abandoned: 1, answered: 1 });
    expect(metrics.audit_imbalance).to.equal(0);
  });

  it('ask for the signature of a model and of the server, and whether it is there', async () => {
    const server = startServer();
    const client = await CallClient.connect(await server.port());
    const { model_metadata } = await client.ask({ model_metadata: { name: 'digits' } });
    expect(model_metadata).to.deep.include({
      name: 'digits',
      versions: ['1'],
      inputs: [{ name: 'pixels', datatype: 'FP32', shape: ['-1', '64'] }],
      outputs: [{ name: 'probabilities', datatype: 'FP32', shape: ['-1', '10'] }],
    });
    expect((await client.ask({ server_metadata: {} })).server_metadata).to.include({ name: 'ml-tcp-server' });
    expect(await client.ask({ ping: {} })).to.include({ code: 0, reason: '' });
    expect(await client.ask({ model_metadata: { name: 'cats' } })).to.include({ reason: 'MODEL_NOT_FOUND' });
  });

  it('go to the models of the list of their listener alone, and to its model when they name none', async () => {
    const server = startServer({}, { models: ['echo', 'held'], model: 'echo' });
    const client = await CallClient.connect(await server.port());
    expect(textsOf(await client.reply(client.sendTexts('', ['x', 'y'])))).to.deep.equal(['x', 'y']);
    expect(await client.ask({ model_metadata: { name: 'digits' } })).to.include({ reason: 'MODEL_NOT_FOUND' });
    expect((await server.event('ready')).models).to.have.keys('echo', 'held');
  });

  it('that break the protocol end the connection, which says why; what came before is answered', async () => {
    const server = startServer({ maxPayloadSizeKb: 1 });
    const port = await server.port();
    const breaks = {
      MALFORMED: (client: CallClient) => client.raw.send(Buffer.from('no call')),
      PAYLOAD_TOO_LARGE: (client: CallClient) => client.sendTexts('echo', ['x'.repeat(2000)]),
    };
    for (const [reason, breakIt] of Object.entries(breaks)) {
      const client = await CallClient.connect(port);
      const before = client.sendTexts('echo', ['before']);
      breakIt(client);
      await client.raw.serverEnded();
      expect(textsOf(await client.reply(before))).to.deep.equal(['before']);
      expect(client.replies.find(({ call }) => call === '0')).to.include({ reason });
    }
    close();
    const unreadable = { infer: { model_name: 'held', inputs: [{ name: 'payload', datatype: '?' }] } };
    for (const body of [{ infer: { model_name: 'held' } }, { ping: {} }, unreadable]) {
      const twice = await CallClient.connect(port);
      twice.sendTexts('held', ['x']);
      twice.send(body, 1);
      await until('why', () => twice.replies.length > 0);
      expect(twice.replies[0]).to.include({ call: '0', reason: 'MALFORMED' });
    }
    open();
    for (const line of [
      'mltcp_requests_unroutable_total{reason="malformed"} 5\n',
      'mltcp_connections_closed_total{reason="protocol"} 4\n',
      'mltcp_connections_closed_total{reason="payload_too_large"} 1\n',
    ])
      await until(line, async () => (await server.prometheus()).includes(line));
  });

  it('are let in by the shared secret of the first one, and by no other', async () => {
    const server = startServer({ sharedSecret: 'sesame' });
    const port = await server.port();
    const trusted = await CallClient.connect(port);
    trusted.send({ ping: {}, secret: 'sesame' });
    expect(textsOf(await trusted.reply(trusted.sendTexts('echo', ['x'])))).to.deep.equal(['x']);
    for (const secret of ['', 'sesam', 'sesame ']) {
      const stranger = await CallClient.connect(port);
      stranger.sendTexts('echo', ['x'], { secret });
      await stranger.raw.serverEnded();
      expect(stranger.replies).to.have.lengthOf(1);
      expect(stranger.replies[0]).to.include({ call: '0', code: 16, reason: 'WRONG_SECRET' });
    }
  });

  it('are told why a connection is refused', async () => {
    const server = startServer({ maxConnections: 1 });
    const port = await server.port();
    const first = await CallClient.connect(port);
    await first.ask({ ping: {} });
    const second = await CallClient.connect(port);
    await second.raw.serverEnded();
    expect(second.replies[0]).to.include({ call: '0', code: 14, reason: 'TOO_MANY_CONNECTIONS' });
  });

  it('are told before the server goes, and what it has taken is answered', async () => {
    const server = startServer();
    const client = await CallClient.connect(await server.port());
    close();
    const taken = client.sendTexts('held', ['taken']);
    const idle = await CallClient.connect(await server.port());
    await server.metricsWhen('it in flight', (all) => all.in_flight === 1 && all.connections === 2);
    server.signal('SIGTERM');
    for (const one of [client, idle]) {
      await until('a goodbye', () => one.replies.length > 0);
      expect(one.replies[0]).to.include({ call: '0', code: 14, reason: 'GOING_AWAY' });
    }
    open();
    expect(textsOf(await client.reply(taken))).to.deep.equal(['taken']);
    expect(await server.ended()).to.deep.equal({ code: 0, signal: null });
  });

  it('go on in another worker at a reload: none is lost, and none is told that the server goes', async () => {
    const server = startServer();
    const port = await server.port();
    const client = await CallClient.connect(port);
    let isOver = false;
    let answered = 0;
    const asking = (async () => {
      while (!isOver) {
        const numbers = Array.from({ length: 8 }, (_, i) => client.sendTexts('echo', [`${i}`]));
        for (const [i, number] of numbers.entries())
          expect(textsOf(await client.reply(number))).to.deep.equal([`${i}`]);
        answered += 8;
      }
    })();
    server.signal('SIGHUP');
    await server.event('reloaded');
    isOver = true;
    await asking;
    expect(client.replies.every(({ call }) => call !== '0')).to.equal(true);
    const metrics = await server.metricsWhen('all of them', ({ total_requests }) => total_requests === answered);
    expect(metrics).to.include({ audit_imbalance: 0, errors: 0 });
    expect(await server.prometheus()).to.match(/mltcp_connections_moved_total [1-9]/);
  });

  it('are read in whatever pieces they come, and a connection that sends noise harms no other', async () => {
    const server = startServer();
    const port = await server.port();
    const client = await CallClient.connect(port);
    const noise = await RawClient.connect(port);
    noise.sendBytes(Buffer.from('ff00ff00ff00ff00', 'hex'));
    await noise.serverEnded();
    const frame = encodeFrame(encodeByOthers('mltcp.v1.Call', { call: 1, infer: textsRequest('echo', ['still']) }), 4);
    for (const byte of frame) client.raw.sendBytes(Buffer.of(byte));
    expect(textsOf(await client.reply(1))).to.deep.equal(['still']);
  });
});
