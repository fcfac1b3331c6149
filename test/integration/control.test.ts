// The control socket: status, reload, scale and drain of a running server, for its own user alone.

import { chmodSync, linkSync, lstatSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { controlFolder, type OperationReply, type ServerStatus } from '#src/control/protocol.js';
import { temporaryFolder } from '../support/folder.js';
import { endProcesses, root, TestProcess } from '../support/processes.js';
import { RawClient } from '../support/raw-client.js';
import { cleanEnv, TestServer } from '../support/server.js';
import { skip } from '../support/skip.js';

const folder = temporaryFolder();
const dummy = { MODEL: 'dummy', WORKERS: '2' };

async function cli(...args: readonly string[]): Promise<{ code: number | null; output: string }> {
  const process_ = new TestProcess(process.execPath, [`${root}bundle/cli.js`, ...args], { env: cleanEnv() });
  const { code } = await process_.ended();
  return { code, output: process_.output };
}

/** Everything that comes back for these bytes. */
async function say(path: string, text: string): Promise<string> {
  let reply = '';
  const socket = connect(path, () => socket.write(text));
  for await (const chunk of socket) reply += chunk;
  return reply;
}

describe('the control socket', () => {
  afterEach(endProcesses);

  it('shows the status, for people and as JSON', async () => {
    const server = new TestServer({ env: { ...dummy, NODE_NAME: 'n7' } });
    const port = await server.port();
    const client = await RawClient.connect(port);
    client.send(Buffer.from('x'), Buffer.from('y'));
    await server.metricsWhen('two requests', ({ total_requests }) => total_requests === 2);
    const { code, output } = await server.operate('status', '--json');
    expect(code).to.equal(0);
    const status = JSON.parse(output) as ServerStatus;
    expect(status).to.deep.include({
      pid: server.pid,
      node: 'n7',
      cluster: 'default',
      state: 'serving',
      listeners: [{ host: '127.0.0.1', port, protocol: 'frames', models: ['dummy'], model: 'dummy' }],
      metricsUrl: await server.url(),
      workersWanted: 2,
      restarts: 0,
      movesConnections: true,
    });
    const sum = (key: 'connections' | 'requests') => status.workers.reduce((total, worker) => total + worker[key], 0);
    expect([status.workers.length, sum('connections'), sum('requests')]).to.deep.equal([2, 1, 2]);
    const text = (await server.operate('status')).output;
    expect(text).to.match(/serving for \d+ s: 2 of 2 workers ready, 0 replaced/);
    expect(text).to.include(`127.0.0.1:${port} → dummy`);
    for (const { pid } of status.workers) expect(text).to.match(new RegExp(`\\b${pid}  ready`));
  });

  it('is open to its user alone, and gone when the server has ended', async () => {
    const server = new TestServer({ env: dummy });
    await server.event('ready');
    const path = join(controlFolder(), `${server.pid}.sock`);
    expect(lstatSync(controlFolder()).mode & 0o777).to.equal(0o700);
    expect(lstatSync(path).mode & 0o777).to.equal(0o600);
    expect(await server.operate('drain')).to.deep.equal({ code: 0, output: 'stopped' });
    expect(await server.ended()).to.deep.equal({ code: 0, signal: null });
    expect(lstatSync(path, { throwIfNoEntry: false })).to.equal(undefined);
  });

  it('drain answers what is in flight', async () => {
    const path = join(folder, 'slow.mjs');
    writeFileSync(path, 'export default () => ({ infer: (rows) => new Promise((r) => setTimeout(r, 300, rows)) });');
    const config = join(folder, 'slow.json');
    const models = [{ name: 'slow', backend: 'module', path }];
    writeFileSync(config, JSON.stringify({ models, server: { model: 'slow' } }));
    const server = new TestServer({ args: ['--config', config] });
    const client = await RawClient.connect(await server.port());
    client.send(Buffer.from('in flight'));
    await server.metricsWhen('the request', ({ in_flight }) => in_flight === 1);
    expect(await server.operate('drain')).to.have.property('code', 0);
    expect(client.replies.map(String)).to.deep.equal(['in flight']);
    await server.ended();
  });

  it('refuses what cannot be done, and the server serves on', async () => {
    const server = new TestServer({ env: dummy });
    await server.event('ready');
    for (const workers of ['0', '1025']) {
      const { code, output } = await server.operate('scale', workers);
      expect([code, output]).to.deep.equal([7, 'ml-tcp-server: there can be 1 to 1024 workers']);
    }
    expect(await server.operate('scale', 'many')).to.have.property('code', 2);
    const client = await RawClient.connect(await server.port());
    client.send(Buffer.from('x'));
    await client.replied(1);
  });

  it('survives what is no request', async () => {
    const server = new TestServer({ env: dummy });
    await server.event('ready');
    const path = join(controlFolder(), `${server.pid}.sock`);
    for (const text of [
      '\n',
      'nonsense\n',
      '{}\n',
      'null\n',
      '{"command":"scale","workers":"3"}\n',
      'x'.repeat(5000),
    ]) {
      const reply = JSON.parse(await say(path, text)) as OperationReply;
      expect(reply.ok).to.equal(false);
    }
    const idle = connect(path);
    expect(await server.operate('status')).to.have.property('code', 0);
    idle.destroy();
  });

  it('is found by itself where one server runs; where several do, one must be named', async () => {
    // Servers of other users of this machine, or of tests beside this one, must not be found.
    const TMPDIR = temporaryFolder();
    const env = { ...dummy, TMPDIR };
    const find = async (): Promise<{ code: number | null; output: string }> => {
      const found = new TestProcess(process.execPath, [`${root}bundle/cli.js`, 'status'], {
        env: cleanEnv({ TMPDIR }),
      });
      return { code: (await found.ended()).code, output: found.output };
    };
    expect(await find()).to.have.property('code', 6);
    const one = new TestServer({ env });
    await one.event('ready');
    expect((await find()).output).to.include(`pid ${one.pid}`);
    const other = new TestServer({ env });
    await other.event('ready');
    const several = await find();
    expect(several.code).to.equal(6);
    expect(several.output).to.include(`--pid ${one.pid}`).and.to.include(`--pid ${other.pid}`);
    // What a killed server leaves behind does not count as a server.
    one.signal('SIGKILL');
    await one.ended();
    const sockets = join(TMPDIR, controlFolder().slice(tmpdir().length));
    // A socket that refuses while its process lives is not listened on yet.
    linkSync(join(sockets, `${one.pid}.sock`), join(sockets, `${process.pid}.sock`));
    expect((await find()).output).to.include(`pid ${other.pid}`);
    expect(readdirSync(sockets)).to.have.members([`${other.pid}.sock`, `${process.pid}.sock`]);
  });

  it('lies where config says, takes the place of one that nobody listens on, and of no other', async () => {
    const path = join(folder, 'mine.sock');
    const args = ['--set', `control.socket=${path}`];
    const first = new TestServer({ env: dummy, args });
    await first.event('ready');
    expect(lstatSync(path).mode & 0o777).to.equal(0o600);
    const second = new TestServer({ env: dummy, args });
    expect(await second.ended()).to.have.property('code', 3);
    expect(second.output).to.include(`${path} is in use by another server`);
    first.signal('SIGKILL');
    await first.ended();
    const third = new TestServer({ env: dummy, args });
    await third.event('ready');
    expect((await cli('status', '--socket', path)).output).to.include(`pid ${third.pid}`);
    const nowhere = new TestServer({ env: dummy, args: ['--set', `control.socket=${folder}/no/such/folder.sock`] });
    expect(await nowhere.ended()).to.have.property('code', 3);
    mkdirSync(join(folder, 'taken'));
    expect(await cli('status', '--socket', join(folder, 'taken'))).to.have.property('code', 6);
  });

  it('is found by a user that has a number and no name, as in many containers', async function () {
    if (process.getuid?.() !== 0) {
      skip(this, 'only root can run a process as another user');
    }
    const uid = 12_345;
    const TMPDIR = temporaryFolder();
    chmodSync(TMPDIR, 0o777);
    const env = { ...cleanEnv({ ...dummy, TMPDIR, SLAB_FOLDER: join(TMPDIR, 'slabs') }), HOME: '/' };
    const options = { env, uid, gid: uid, cwd: '/' };
    const as = (...args: readonly string[]) =>
      new TestProcess(process.execPath, [`${root}bundle/cli.js`, ...args], options);
    const script = 'try { require("os").userInfo(); } catch { process.exit(3); }';
    const nameless = await new TestProcess(process.execPath, ['-e', script], options).ended();
    expect(nameless.code, 'the user has no name').to.equal(3);
    const server = as('start', '--port', '0', '--http-port', '0');
    await server.line('ready', (line) => line.includes('"msg":"ready"'));
    for (const command of [['status'], ['reload'], ['reload', '--models'], ['scale', '1'], ['drain']]) {
      const cli = as(...command);
      expect((await cli.ended()).code, cli.output).to.equal(0);
    }
    expect(await server.ended()).to.deep.equal({ code: 0, signal: null });
    expect(server.output).not.to.include('no control socket');
  });

  it('lies in /tmp where its path would be too long in the temporary folder, never under a cut name, and is found', async () => {
    const parent = temporaryFolder();
    const TMPDIR = join(parent, 'x'.repeat(130 - parent.length - 1));
    mkdirSync(TMPDIR);
    const server = new TestServer({ env: { ...dummy, WORKERS: '1', TMPDIR } });
    await server.event('ready');
    const args = [`${root}bundle/cli.js`, 'status', '--pid', String(server.pid)];
    const status = new TestProcess(process.execPath, args, { env: cleanEnv({ TMPDIR }) });
    expect((await status.ended()).code, status.output).to.equal(0);
    expect(status.output).to.include(`pid ${server.pid}`);
    const named = [parent, TMPDIR].flatMap((at) => readdirSync(at).map((name) => join(at, name)));
    expect(named.filter((path) => lstatSync(path).isSocket())).to.deep.equal([]);
    server.signal('SIGTERM');
    await server.ended();
  });

  it('is refused where its own path is too long, by the server and by its clients, with the limit', async () => {
    const socket = join(folder, 'x'.repeat(107 - folder.length));
    expect(socket).to.have.lengthOf(108);
    const env = { CONTROL_SOCKET: socket };
    const server = new TestServer({ env: { ...dummy, ...env } });
    expect(await server.ended()).to.have.property('code', 2);
    expect(server.output).to.include('control.socket (from environment CONTROL_SOCKET): has 108 bytes');
    expect(server.output).to.include('may have 107');
    for (const command of ['status', 'drain']) {
      const { code, output } = await cli(command, '--socket', socket);
      expect([code, output.includes('may have 107')], output).to.deep.equal([2, true]);
    }
    const longest = new TestServer({ env: { ...dummy, CONTROL_SOCKET: socket.slice(0, -1) } });
    await longest.event('ready');
    expect((await cli('status', '--socket', socket.slice(0, -1))).code).to.equal(0);
  });

  it('is not there when config says none', async () => {
    const server = new TestServer({ env: dummy, args: ['--set', 'control.socket=none'] });
    await server.event('ready');
    expect(await server.operate('status')).to.have.property('code', 6);
  });
});
