import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { cpuLimit, workersFor } from '#src/config/cpu-limit.js';
import { describeConfig, formatConfig, maskUrl } from '#src/config/describe.js';
import { type LoadOptions, loadConfig } from '#src/config/load.js';
import { OperatorError } from '#src/errors.js';

describe('the configuration', () => {
  let folder: string;
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'mltcp-config-'));
  });
  afterEach(() => rmSync(folder, { recursive: true }));

  const load = (options: Partial<LoadOptions> = {}) => loadConfig({ env: {}, workingDirectory: folder, ...options });
  const write = (name: string, content: unknown): string => {
    writeFileSync(join(folder, name), typeof content === 'string' ? content : JSON.stringify(content));
    return name;
  };
  const mistakes = (options: Partial<LoadOptions>): string => {
    try {
      load(options);
    } catch (error) {
      expect(error).to.be.instanceOf(OperatorError).with.property('code', 'CONFIG_INVALID');
      return (error as Error).message;
    }
    throw new Error('the configuration was accepted');
  };

  it('serves the shipped model on loopback, from any folder, when nothing is set', () => {
    const { config } = load();
    expect(config.listeners).to.deep.equal([
      { host: '127.0.0.1', port: 8081, protocol: 'frames', models: ['digits'], model: 'digits', tls: false },
    ]);
    expect(config.models[0]?.path).to.match(/config\/models\/digits$/);
    expect(config.cluster.workers).to.equal(workersFor(cpuLimit()));
    expect(config.redis.url).to.equal('');
  });

  it('lets the later layer win: file, .env, environment, flags', () => {
    const file = write('mine.json', {
      server: { port: 1001, maxConnections: 1, lengthFieldSize: 2, maxPayloadSizeKb: 1 },
    });
    write('.env', 'MAX_CONNECTIONS=2\nLENGTH_FIELD_SIZE=4\nMAX_PAYLOAD_SIZE_KB=2\n');
    const env = { LENGTH_FIELD_SIZE: '8', MAX_PAYLOAD_SIZE_KB: '3' };
    const { config, sources } = load({ file, env, flags: { 'server.maxPayloadSizeKb': '4' } });
    expect(config.server).to.include({ port: 1001, maxConnections: 2, lengthFieldSize: 8, maxPayloadSizeKb: 4 });
    expect(
      ['server.port', 'server.maxConnections', 'server.lengthFieldSize', 'server.maxPayloadSizeKb', 'server.host'].map(
        (key) => sources.get(key),
      ),
    ).to.deep.equal([
      'mine.json',
      '.env MAX_CONNECTIONS',
      'environment LENGTH_FIELD_SIZE',
      'flag server.maxPayloadSizeKb',
      'config/default.json',
    ]);
  });

  it('takes addresses of Redis with IPv6 in brackets, with spaces between them, and files from the working directory', () => {
    const env = { REDIS_NODES: '[::1]:26379, redis.example:26380', REDIS_MASTER_NAME: 'm', REDIS_CA_FILE: 'ca.pem' };
    const { redis } = load({ env: { ...env, REDIS_SENTINEL_TLS: 'true' } }).config;
    expect(redis).to.deep.include({ nodes: ['[::1]:26379', 'redis.example:26380'], sentinelTls: true });
    expect(redis.caFile).to.equal(join(folder, 'ca.pem'));
  });

  it('refuses settings of Redis that cannot work, and says what could be meant', () => {
    const cases: readonly (readonly [Record<string, string>, RegExp])[] = [
      [{ REDIS_URL: 'redis://:a%ss@host' }, /redis.url: has a user or a password with a %/],
      [{ REDIS_URL: 'redis://host:70000' }, /redis.url: must be redis:\/\//],
      [{ REDIS_NODES: '::1:26379' }, /redis.nodes: must be a list of host:port, an IPv6 address in brackets/],
      [{ REDIS_URL: 'redis://host', REDIS_CA_FILE: 'ca.pem' }, /redis.caFile: has no effect without TLS/],
      [{ REDIS_URL: 'rediss://host', REDIS_CERT_FILE: 'c.pem' }, /certFile and keyFile belong together/],
      [{ REDIS_URL: 'redis://host/1', REDIS_NODES: 'a:1' }, /redis.url: a Redis Cluster has only database 0/],
      [{ REDIS_URL: 'redis://host', REDIS_MASTER_NAME: 'm' }, /redis.masterName: needs the Sentinels/],
    ];
    for (const [env, expected] of cases) {
      const message = mistakes({ env });
      expect(message).to.match(expected).and.not.to.include('a%ss');
    }
  });

  it('takes the settings of the original server from the environment', () => {
    const env = {
      HOST: 'localhost',
      PORT: '9000',
      LENGTH_FIELD_SIZE: '2',
      RESPONSE_SIZE: '7',
      LOG_LEVEL: 'WARNING',
      MAX_CONNECTIONS: '5',
      MAX_PAYLOAD_SIZE_KB: '6',
      PAYLOAD_TIMEOUT_SECONDS: '0.5',
      MODEL: 'dummy',
    };
    const { config } = load({ env });
    expect(config.listeners).to.deep.equal([
      { host: 'localhost', port: 9000, protocol: 'frames', models: ['dummy'], model: 'dummy', tls: false },
    ]);
    expect(config.server).to.include({
      lengthFieldSize: 2,
      maxConnections: 5,
      maxPayloadSizeKb: 6,
      payloadTimeoutSeconds: 0.5,
    });
    expect(config.models.find(({ name }) => name === 'dummy')).to.include({ backend: 'dummy', responseSize: 7 });
    expect(config.log.level).to.equal('warn');
  });

  it('reads the file that CONFIG_FILE names, and that of NODE_ENV', () => {
    write('other.json', { server: { maxConnections: 9 } });
    const { config, sources } = load({ env: { CONFIG_FILE: 'other.json', NODE_ENV: 'production' } });
    expect(config.server.maxConnections).to.equal(9);
    expect(sources.get('redis.url')).to.equal('config/production.json');
  });

  it('reports every mistake at once, each with its source, unknown keys too', () => {
    const file = write('bad.json', {
      server: { port: 'http', prot: 1, maxConnections: 0 },
      redis: 5,
      models: [{ name: 'x', backend: 'torch', color: 'red' }, 7],
      listeners: [{ port: 70_000, model: 'x' }],
    });
    const message = mistakes({ file, env: { LENGTH_FIELD_SIZE: '3' } });
    for (const expected of [
      'the configuration has 9 mistakes',
      'server.port: must be a port from 0 to 65535 (0: any free one) (from bad.json)',
      'server.prot: there is no such setting (from bad.json)',
      'server.maxConnections: must be a whole number above 0 (from bad.json)',
      'server.lengthFieldSize: must be 2, 4 or 8 (from environment LENGTH_FIELD_SIZE)',
      'redis: must be an object (from bad.json)',
      'models[0].backend: must be onnx, module or dummy',
      'models[0].color: there is no such setting',
      'models[1]: must be an object',
      'listeners[0].port: must be a port',
    ]) {
      expect(message).to.include(expected);
    }
  });

  it('reports settings that contradict each other', () => {
    expect(mistakes({ env: { MODEL: 'nope' } })).to.include(
      'server.model (from environment MODEL): there is no model named "nope": choose one of digits, dummy',
    );
    expect(mistakes({ env: { LENGTH_FIELD_SIZE: '2', RESPONSE_SIZE: '70000', MODEL: 'dummy' } })).to.include(
      '70000 bytes do not fit a length field of 2 bytes',
    );
    const listeners = [
      { port: 5, model: 'digits' },
      { port: 5, model: 'dummy' },
    ];
    expect(mistakes({ file: write('l.json', { listeners }) })).to.include(
      'listeners[1].port: 127.0.0.1:5 is taken by listeners[0].port',
    );
    expect(
      mistakes({ file: write('p.json', { listeners: [{ port: 5, model: 'digits' }] }), env: { PORT: '9000' } }),
    ).to.include('server.port: has no effect beside listeners (environment PORT; listeners from p.json)');
    expect(mistakes({ file: write('m.json', { models: [{ name: 'a', backend: 'module' }] }) })).to.include(
      'models[0].path: the module model a needs one',
    );
  });

  it('takes tensors by any name, as they are', () => {
    const tensors = {
      inputs: { 'input.1': { shape: [512, null, -1, 'seq', 0], batchAxis: 1 }, sr: { batchAxis: 'shared' } },
      outputs: { 'scores/0': { returned: false, batchAxis: 'none' } },
      constants: {
        'a.b.c': [
          [1, 2.5],
          [true, '9007199254740993'],
        ],
        x: 'text',
      },
      pad: { axis: 1, inputs: ['input.1'], buckets: [16, 32], outputs: { y: 1 }, mask: 'm', value: -1 },
    };
    const models = [
      { name: 'a', path: 'a.onnx', ...tensors },
      { name: 'b', path: 'b.onnx', outputs: ['y', 'z.1'], settings: { a: { b: { 'c.d': [1] } } } },
    ];
    const { config } = load({ file: write('t.json', { models }), env: { MODEL: 'a' } });
    expect(config.models[0]).to.deep.include(tensors);
    expect(config.models[1]?.settings).to.deep.equal({ a: { b: { 'c.d': [1] } } });
    expect(config.models[1]).to.deep.include({ inputs: {}, outputs: ['y', 'z.1'], constants: {}, pad: null });
  });

  it('refuses settings of tensors that cannot be meant', () => {
    const pad = { axis: 1, inputs: ['x'], buckets: [16], outputs: {} };
    const wrong: Readonly<Record<string, readonly unknown[]>> = {
      inputs: [
        [],
        { x: 5 },
        { x: { shape: 5 } },
        { x: { shape: [-2] } },
        { x: { shape: [1.5] } },
        { x: { shape: [''] } },
        { x: { batchAxis: 'all' } },
        { x: { batchAxis: -1 } },
        { x: { axis: 1 } },
      ],
      outputs: [['x', 5], 'x', { x: { returned: 1 } }, { x: { shape: [1] } }],
      constants: [[1], { x: null }, { x: [1, { y: 2 }] }],
      pad: [
        [],
        { ...pad, axis: -1 },
        { ...pad, inputs: [] },
        { ...pad, buckets: [16, 16] },
        { ...pad, buckets: [] },
        { ...pad, buckets: [0, 1] },
        { ...pad, outputs: { y: 'x' } },
        { ...pad, more: 1 },
        { axis: 1 },
      ],
    };
    for (const [key, values] of Object.entries(wrong))
      for (const value of values) {
        const models = [{ name: 'a', path: 'a.onnx', [key]: value }];
        expect(mistakes({ file: write('w.json', { models }) }), JSON.stringify(value)).to.include(
          `models[0].${key}: must be`,
        );
      }
  });

  it('says which file it could not read', () => {
    expect(mistakes({ file: 'nowhere.json' })).to.include('nowhere.json: cannot be read: ENOENT');
    expect(mistakes({ file: write('broken.json', '{"server": ') })).to.include('broken.json: cannot be read');
  });

  it('is shown with sources and without secrets', () => {
    const text = formatConfig(describeConfig(load({ env: { REDIS_URL: 'redis://me:s3cret@host:1' } })));
    expect(text).to.match(/^redis\.url +"redis:\/\/me:\*\*\*@host:1" +environment REDIS_URL$/m);
    expect(text).not.to.include('s3cret');
  });
});

describe('a URL with a password', () => {
  it('is shown without it, whatever is in it', () => {
    expect(maskUrl('redis://app:pa@ss@w0rd@db:6379/1')).to.equal('redis://app:***@db:6379/1');
    expect(maskUrl('rediss://:secret@db')).to.equal('rediss://:***@db');
    expect(maskUrl('redis://secret@db')).to.equal('redis://***@db');
    expect(maskUrl('redis://db:6379')).to.equal('redis://db:6379');
  });
});
