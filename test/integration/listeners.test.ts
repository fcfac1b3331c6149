// Listeners that speak several protocols, or one after the other: what raw clients notice of it, which is nothing.

import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { buffer } from 'node:stream/consumers';
import { expect } from 'chai';
import type { ServerStatus } from '#src/control/protocol.js';
import { encodeFrame } from '#src/protocol/frames.js';
import { CheckedClient, faultOf } from '../support/checked-client.js';
import { temporaryFolder } from '../support/folder.js';
import { endProcesses, root } from '../support/processes.js';
import { RawClient } from '../support/raw-client.js';
import { TestServer } from '../support/server.js';
import { until } from '../support/until.js';

const folder = temporaryFolder();
let configs = 0;
const models = [
  { name: 'echo', backend: 'module', path: `${root}test/support/models/echo.mjs` },
  { name: 'digits', path: 'config/models/digits' },
];

function configFile(listeners: readonly object[], server: object = {}): string {
  const path = `${folder}/config-${++configs}.json`;
  writeFileSync(path, JSON.stringify({ models, listeners, server }));
  return path;
}

const startServer = (file: string, workers = 1): TestServer =>
  new TestServer({ hasListeners: true, args: ['--config', file, '--workers', String(workers)] });

async function portsOf(server: TestServer): Promise<readonly number[]> {
  const { tcp } = await server.event('ready');
  return (tcp as readonly string[]).map((line) => Number(/:(\d+) /.exec(line)?.[1]));
}

describe('listeners with protocols of their own', function () {
  this.timeout(40_000);
  afterEach(endProcesses);

  it('are told when the server is ready, with the models that each serves and workers have loaded', async () => {
    const server = startServer(
      configFile([
        { port: 0, model: 'echo' },
        { port: 0, protocol: 'calls', models: ['digits'] },
        { port: 0, protocol: 'auto', models: ['echo', 'digits'], model: 'echo' },
      ]),
    );
    const ready = (await server.event('ready')) as unknown as { tcp: string[]; models: Record<string, string> };
    const told = ready.tcp.map((line) => line.replace(/:\d+ /, ':PORT '));
    const expected = [
      '127.0.0.1:PORT → echo',
      '127.0.0.1:PORT → calls: digits',
      '127.0.0.1:PORT → frames: echo; calls, http, grpc: echo, digits',
    ];
    expect(told).to.deep.equal(expected);
    // Nothing serves the dummy, so it is not loaded.
    expect(Object.keys(ready.models)).to.have.members(['echo', 'digits']);
    const { output } = await server.operate('status');
    for (const line of expected) expect(output.replaceAll(/:\d+ →/g, ':PORT →')).to.include(line);
    const status = JSON.parse((await server.operate('status', '--json')).output) as ServerStatus;
    expect(status.listeners.map(({ protocol, model }) => [protocol, model])).to.deep.equal([
      ['frames', 'echo'],
      ['calls', 'digits'],
      ['auto', 'echo'],
    ]);
  });

  it('give raw clients the same replies, byte by byte, wherever frames are spoken', async () => {
    const file = configFile([
      { port: 0, model: 'digits' },
      { port: 0, protocol: 'auto', model: 'digits' },
    ]);
    const [alone = 0, among = 0] = await portsOf(startServer(file));
    const images = [0, 1, 2].map((seed) =>
      Buffer.from(Float32Array.from({ length: 64 }, (_, i) => (seed * 7 + i) % 17).buffer),
    );
    const replies: Buffer[] = [];
    for (const port of [alone, among]) {
      const client = await RawClient.connect(port);
      // In pieces of one byte, so that nobody could tell the protocol by the first read.
      for (const byte of encodeFrame(images[0] as Buffer, 4)) client.sendBytes(Buffer.of(byte));
      client.send(...images.slice(1));
      replies.push(Buffer.concat(await client.replied(3)));
      client.end();
      await client.serverEnded();
    }
    expect(replies[0]).to.have.length(3 * 40);
    expect(replies[1]?.equals(replies[0] as Buffer)).to.equal(true);
  });

  it('close what none of their protocols begins with, or begins none in time, and count it', async () => {
    const server = startServer(configFile([{ port: 0, protocol: 'open' }], { payloadTimeoutSeconds: 0.3 }));
    const [port = 0] = await portsOf(server);
    const wrong = connect({ port, host: '127.0.0.1' });
    wrong.write(encodeFrame(Buffer.from('hello'), 4));
    expect(await buffer(wrong)).to.have.length(0);
    const slow = connect({ port, host: '127.0.0.1' });
    slow.write('PRI * HTTP/2.0\r\n');
    const silent = connect({ port, host: '127.0.0.1' });
    for (const socket of [slow, silent]) {
      socket.resume();
      await once(socket, 'end');
      socket.destroy();
    }
    await until('all counted', async () => {
      const text = await server.prometheus();
      return (
        text.includes('mltcp_connections_closed_total{reason="protocol"} 1\n') &&
        text.includes('mltcp_connections_closed_total{reason="payload_timeout"} 2\n')
      );
    });
  });

  it('keep the connections of raw clients through a reload, also where other protocols are spoken', async () => {
    const listeners = [{ port: 0, protocol: 'auto', model: 'echo' }];
    const server = startServer(configFile(listeners), 2);
    const [port = 0] = await portsOf(server);
    const clients = [0, 1, 2, 3, 4, 5].map((id) => new CheckedClient(id, port, { depth: 4 }));
    await until('busy connections', () => clients.every(({ replied }) => replied > 0));
    server.signal('SIGUSR2');
    await until('the reload', () => server.count('reloaded') > 0 || faultOf(clients) !== null, { timeoutMs: 30_000 });
    await Promise.all(clients.map((client) => client.finish()));
    expect(faultOf(clients)).to.equal(null);
    expect(clients.reduce((sum, { closes }) => sum + closes, 0)).to.equal(0);
    await until('each counted as moved', async () => {
      const moved = /^mltcp_connections_moved_total (\d+)$/m.exec(await server.prometheus())?.[1];
      return Number(moved) >= clients.length;
    });
  });

  it('keep connections through a reload that have not told what they speak', async () => {
    const server = startServer(configFile([{ port: 0, protocol: 'auto', model: 'echo' }]), 2);
    const [port = 0] = await portsOf(server);
    const silent = [await RawClient.connect(port), await RawClient.connect(port)];
    const begun = await RawClient.connect(port);
    begun.sendBytes(Buffer.from('MLT'));
    await server.metricsWhen('all are there', ({ connections }) => connections === 3);
    server.signal('SIGUSR2');
    await server.event('reloaded');
    for (const client of silent) {
      client.send(Buffer.from('still here'));
      expect(String((await client.replied(1))[0])).to.equal('still here');
    }
    // The rest of the preface, and a Call of number 1 that pings.
    begun.sendBytes(Buffer.from('CP/2\n'));
    begun.send(Buffer.of(0x08, 1, 0x32, 0));
    const [pong] = await begun.replied(1);
    expect(pong?.subarray(0, 2)).to.deep.equal(Buffer.of(0x08, 1));
    for (const client of [...silent, begun]) client.destroy();
  });
});
