import { expect } from 'chai';
import { type Config, loadConfig } from '#src/config/load.js';
import { Reloader } from '#src/primary/rollout/reload.js';
import { createLog } from '#src/process/log.js';
import { root } from '../../../support/processes.js';

const silent = { 'log.level': 'silent' };
const log = createLog({ level: 'silent', format: 'json' }, { role: 'primary', node: 'a' });
const load = (flags: Record<string, string> = {}): Config =>
  loadConfig({ env: {}, flags: { ...silent, ...flags }, workingDirectory: root }).config;

describe('a reload', () => {
  /** Its reloads are done when the test says so. */
  function startReloader(source: { flags?: Record<string, string>; version?: string } = {}) {
    const done: (() => void)[] = [];
    const reloaded: Config[] = [];
    const scaled: number[] = [];
    const target = {
      reload: (config: Config) => {
        reloaded.push(config);
        return new Promise<void>((resolve) => done.push(resolve));
      },
      scale: (workers: number) => scaled.push(workers),
    };
    const readConfig = () => load(source.flags);
    const installedVersion = () => source.version ?? '1.0.0';
    const reloader = new Reloader(load(), { readConfig, installedVersion }, target, log);
    return { reloader, reloaded, scaled, source, finish: () => done.shift()?.() };
  }

  it('that is asked for by signal while another is under way follows it, once', async () => {
    const { reloader, reloaded, finish } = startReloader();
    const first = reloader.request('SIGUSR2');
    await Promise.all([reloader.request('SIGUSR2'), reloader.request('SIGHUP')]);
    expect(reloaded).to.have.lengthOf(1);
    finish();
    await new Promise(setImmediate);
    expect(reloaded).to.have.lengthOf(2);
    finish();
    await first;
    await new Promise(setImmediate);
    expect(reloaded).to.have.lengthOf(2);
  });

  it('that is asked for by signal while one by command is under way follows it, once', async () => {
    const { reloader, reloaded, finish } = startReloader();
    const first = reloader.reload('command');
    await Promise.all([reloader.request('SIGUSR2'), reloader.request('SIGHUP')]);
    expect(reloaded).to.have.lengthOf(1);
    finish();
    await first;
    expect(reloaded).to.have.lengthOf(2);
    finish();
    await new Promise(setImmediate);
    expect(reloaded).to.have.lengthOf(2);
  });

  it('that is asked for by command while another is under way is refused', async () => {
    const { reloader, finish } = startReloader();
    const first = reloader.reload('command');
    const second = await reloader.reload('command').catch((error: Error) => error.message);
    expect(second).to.equal('a reload is under way: wait for its end');
    finish();
    await first;
  });

  it('is refused when another version has been installed meanwhile', async () => {
    const { reloader, source, reloaded } = startReloader();
    source.version = '2.0.0';
    const refused = await reloader.reload('command').catch((error: Error) => error.message);
    expect(refused).to.equal('version 2.0.0 is installed, version 1.0.0 runs: restart to change over');
    expect(reloaded).to.deep.equal([]);
  });

  it('keeps what cannot change, takes the rest, and scales when the number of workers has changed', async () => {
    const flags = {
      'cluster.name': 'other',
      'redis.url': 'redis://x',
      'server.maxConnections': '7',
      'cluster.workers': '3',
    };
    const { reloader, reloaded, scaled, finish } = startReloader({ flags });
    const reloading = reloader.reload('command');
    finish();
    await reloading;
    expect(reloaded[0]).to.deep.include({ redis: load().redis });
    expect(reloaded[0]?.cluster).to.include({ name: 'default', workers: 3 });
    expect(reloader.config.server.maxConnections).to.equal(7);
    expect(scaled).to.deep.equal([3]);
  });
});
