// Who may connect to the TCP port, and how: TLS, certificates, addresses, secrets.

import { copyFileSync } from 'node:fs';
import { createConnection } from 'node:net';
import { join } from 'node:path';
import { connect as connectTls, type TLSSocket } from 'node:tls';
import { expect } from 'chai';
import { type ClientOptions, InferenceClient } from '#src/client/client.js';
import { Authority } from '../support/certificates.js';
import { temporaryFolder } from '../support/folder.js';
import { endProcesses } from '../support/processes.js';
import { RawClient } from '../support/raw-client.js';
import { type ServerOptions, TestServer } from '../support/server.js';
import { until, within } from '../support/until.js';

const dummy = { MODEL: 'dummy', RESPONSE_SIZE: '5' };
const ask = Buffer.from('x');

/** The outcome of a connection: a reply, or the name of an error. */
async function outcome(options: ClientOptions): Promise<string> {
  try {
    const client = await InferenceClient.connect(options);
    const reply = await client.infer(ask).finally(() => client.destroy());
    return String(reply);
  } catch (error) {
    return (error as Error).name;
  }
}

describe('TLS', () => {
  const authority = new Authority();
  const certificate = authority.issue('server');
  const tls = { ca: authority.cert };
  const serverTls = { SERVER_TLS_CERT_FILE: certificate.certFile, SERVER_TLS_KEY_FILE: certificate.keyFile };
  const serve = (env: Readonly<Record<string, string>> = {}, options: ServerOptions = {}): TestServer =>
    new TestServer({ ...options, env: { ...dummy, ...serverTls, ...env } });

  afterEach(endProcesses);

  it('serves pipelined requests in order, and counts them exactly', async () => {
    const server = serve();
    const client = await InferenceClient.connect({ port: await server.port(), tls });
    const replies = await Promise.all(Array.from({ length: 5000 }, (_, i) => client.infer(Buffer.alloc(i % 300))));
    expect(new Set(replies.map(String))).to.deep.equal(new Set(['XXXXX']));
    const metrics = await server.metricsWhen('5,000 requests', ({ total_requests }) => total_requests === 5000);
    expect(metrics).to.include({ connections: 1, errors: 0, audit_imbalance: 0 });
    await client.close();
    await server.metricsWhen('no connection', ({ connections }) => connections === 0);
  });

  it('is refused by a client that trusts another authority, or finds an expired certificate', async () => {
    const server = serve();
    const port = await server.port();
    expect(await outcome({ port, tls: { ca: new Authority('another').cert } })).to.equal('Error');
    expect(await outcome({ port, tls })).to.equal('XXXXX');
    const expired = authority.issue('expired', -1);
    const stale = serve({ SERVER_TLS_CERT_FILE: expired.certFile, SERVER_TLS_KEY_FILE: expired.keyFile });
    expect(await outcome({ port: await stale.port(), tls })).to.equal('Error');
  });

  it('with client certificates serves those that the authority has signed, and no other', async () => {
    const server = serve({ SERVER_TLS_CA_FILE: authority.certFile, MAX_CONNECTIONS: '3' });
    const port = await server.port();
    const [good, expired] = [authority.issue('client'), authority.issue('late', -1)];
    const foreign = new Authority('another').issue('client');
    expect(await outcome({ port, tls })).to.equal('ConnectionLostError');
    for (const { cert, key } of [foreign, expired]) {
      expect(await outcome({ port, tls: { ...tls, cert, key } })).to.equal('ConnectionLostError');
    }
    const { cert, key } = good;
    // More often than there are permits: what is refused has returned its permit.
    for (let i = 0; i < 4; i++) expect(await outcome({ port, tls: { ...tls, cert, key } })).to.equal('XXXXX');
    await until('three refusals', async () => (await server.prometheus()).includes('{reason="handshake"} 3\n'));
  });

  it('speaks no version that is older than it is told', async () => {
    const server = serve({ SERVER_TLS_MIN_VERSION: 'TLSv1.3' });
    const port = await server.port();
    expect(await outcome({ port, tls: { ...tls, maxVersion: 'TLSv1.2' } })).to.equal('Error');
    expect(await outcome({ port, tls })).to.equal('XXXXX');
  });

  it('ends a client that speaks plainly, or says nothing, and serves the others', async () => {
    const server = serve({ PAYLOAD_TIMEOUT_SECONDS: '0.5' });
    const port = await server.port();
    const plain = await RawClient.connect(port);
    plain.send(ask);
    await plain.serverEnded();
    const silent = createConnection({ host: '127.0.0.1', port });
    silent.on('error', () => {}).resume();
    await within(
      10_000,
      'the end of a client that says nothing',
      new Promise((resolve) => silent.once('close', resolve)),
    );
    expect(await outcome({ port, tls })).to.equal('XXXXX');
    await until('two refusals', async () => (await server.prometheus()).includes('{reason="handshake"} 2\n'));
    await server.metricsWhen('no connection', ({ connections }) => connections === 0);
  });

  it('sent to a port without it is refused as a frame that is too long', async () => {
    const server = new TestServer({ env: dummy });
    const port = await server.port();
    expect(await outcome({ port, tls })).to.equal('Error');
    await until('the refusal', async () => (await server.prometheus()).includes('reason="payload_too_large"} 1\n'));
    expect(await outcome({ port })).to.equal('XXXXX');
  });

  it('shows a renewed certificate to new clients, and open connections live on; a broken one changes nothing', async () => {
    const folder = temporaryFolder();
    const [certFile, keyFile] = [join(folder, 'cert.pem'), join(folder, 'key.pem')];
    const install = (from: { certFile: string; keyFile: string }): void => {
      copyFileSync(from.keyFile, keyFile);
      copyFileSync(from.certFile, certFile);
    };
    install(certificate);
    const server = serve({ SERVER_TLS_CERT_FILE: certFile, SERVER_TLS_KEY_FILE: keyFile, WORKERS: '1' });
    const port = await server.port();
    const seen = (): Promise<string> =>
      new Promise((resolve, reject) => {
        const socket: TLSSocket = connectTls({ host: '127.0.0.1', port, ...tls }, () => {
          resolve(String(socket.getPeerCertificate().subject.CN));
          socket.destroy();
        });
        socket.once('error', reject);
      });
    expect(await seen()).to.equal('server');
    const old = await InferenceClient.connect({ port, tls });
    install(authority.issue('renewed'));
    await until('the renewed certificate', async () => (await seen()) === 'renewed');
    expect(String(await old.infer(ask))).to.equal('XXXXX');
    copyFileSync(certificate.keyFile, keyFile); // the key of another certificate
    await server.event('new certificates cannot be used: the old ones are served on');
    expect(await seen()).to.equal('renewed');
    expect(String(await old.infer(ask))).to.equal('XXXXX');
    old.destroy();
  });

  it('connections are drained at a reload: what was asked is answered, and who connects again is served', async () => {
    const server = serve();
    const port = await server.port();
    const client = await InferenceClient.connect({ port, tls });
    const plainly: Promise<Buffer>[] = [];
    for (let i = 0; i < 100; i++) plainly.push(client.infer(ask));
    const reloaded = await server.operate('reload');
    expect(reloaded.code, reloaded.output).to.equal(0);
    expect(new Set((await Promise.all(plainly)).map(String))).to.deep.equal(new Set(['XXXXX']));
    expect(await outcome({ port, tls })).to.equal('XXXXX');
    await server.metricsWhen('the end of the old', ({ connections }) => connections === 0);
  });

  it('does not start with a certificate that cannot be read, or a key of another', async () => {
    const missing = serve({ SERVER_TLS_CERT_FILE: '/nowhere/cert.pem' });
    expect((await missing.ended()).code).to.equal(2);
    expect(missing.output).to.include('server.tls.certFile: cannot read /nowhere/cert.pem');
    const mixed = serve({ SERVER_TLS_KEY_FILE: authority.issue('other').keyFile });
    expect((await mixed.ended()).code).to.equal(2);
    expect(mixed.output).to.include('are no certificate and its key in PEM');
  });
});

describe('the TCP port lets in', () => {
  afterEach(endProcesses);

  const refusals = async (server: TestServer, reason: string, count: number): Promise<void> => {
    await until(`${count} refused for ${reason}`, async () =>
      (await server.prometheus()).includes(`mltcp_connections_refused_total{reason="${reason}"} ${count}\n`),
    );
  };

  it('who is allowed and not denied', async () => {
    const denied = new TestServer({ env: { ...dummy, DENY: '127.0.0.0/8' } });
    expect(await outcome({ port: await denied.port() })).to.equal('ConnectionLostError');
    await refusals(denied, 'address', 1);
    const others = new TestServer({ env: { ...dummy, ALLOW: '10.0.0.0/8,192.0.2.1' } });
    expect(await outcome({ port: await others.port() })).to.equal('ConnectionLostError');
    await refusals(others, 'address', 1);
    const allowed = new TestServer({ env: { ...dummy, ALLOW: '127.0.0.0/8', DENY: '127.0.0.2' } });
    expect(await outcome({ port: await allowed.port() })).to.equal('XXXXX');
  });

  it('so many connections of one address, over all workers, and gives places back', async () => {
    const server = new TestServer({ env: { ...dummy, MAX_CONNECTIONS_PER_ADDRESS: '3', WORKERS: '2' } });
    const port = await server.port();
    const first = await Promise.all(Array.from({ length: 3 }, () => InferenceClient.connect({ port })));
    for (const client of first) await client.infer(ask);
    expect(await outcome({ port })).to.equal('RequestFailedError');
    await refusals(server, 'address_limit', 1);
    const fromElsewhere = createConnection({ host: '127.0.0.1', port, localAddress: '127.0.0.9' });
    fromElsewhere.write(Buffer.from('0000000178', 'hex'));
    const reply = await new Promise<Buffer>((resolve) => fromElsewhere.once('data', resolve));
    expect(String(reply.subarray(4))).to.equal('XXXXX');
    fromElsewhere.destroy();
    await first[0]?.close();
    await until('a place', async () => (await outcome({ port })) === 'XXXXX');
    for (const client of first) client.destroy();
  });

  it('so many new connections a second', async () => {
    const server = new TestServer({ env: dummy, args: ['--set', 'server.maxNewConnectionsPerSecond=5'] });
    const port = await server.port();
    const outcomes = await Promise.all(Array.from({ length: 30 }, () => outcome({ port })));
    const served = outcomes.filter((text) => text === 'XXXXX').length;
    expect(served).to.be.within(5, 25);
    await refusals(server, 'rate', 30 - served);
    await until('a later second', async () => (await outcome({ port })) === 'XXXXX');
  });

  it('who knows the shared secret, also after a reload in the middle of a frame', async () => {
    const server = new TestServer({ env: { ...dummy, SHARED_SECRET: 'open sesame' } });
    const port = await server.port();
    expect(await outcome({ port, secret: 'open sesame' })).to.equal('XXXXX');
    expect(await outcome({ port, secret: 'guess' })).to.equal('RequestFailedError');
    expect(await outcome({ port })).to.equal('RequestFailedError');
    const client = await RawClient.connect(port);
    client.send(Buffer.from('open sesame'), ask);
    await client.replied(1);
    client.sendBytes(Buffer.from('00000002', 'hex'));
    expect((await server.operate('reload')).code).to.equal(0);
    client.sendBytes(Buffer.from('xx'));
    expect((await client.replied(2)).map(String)).to.deep.equal(['XXXXX', 'XXXXX']);
    await until('two refused', async () => (await server.prometheus()).includes('{reason="secret"} 2\n'));
    expect(server.output).to.not.include('sesame');
    client.destroy();
  });
});
