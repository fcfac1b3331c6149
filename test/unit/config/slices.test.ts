import { expect } from 'chai';
import { type LoadOptions, leafKeys, leafSchema, loadConfig } from '#src/config/load.js';
import { schema } from '#src/config/schema/schema.js';
import { aggregatorConfig, withoutSecrets, workerConfig } from '#src/config/slices.js';

/** Every secret that config can hold, by key, each with its own value. */
const secrets: Readonly<Record<string, string>> = Object.fromEntries(
  [...leafKeys(schema)]
    .filter((key) => leafSchema(key).sensitive)
    .map((key, i) => [key, key.endsWith('url') ? `redis://:secret-${i}@127.0.0.1` : `secret-${i}`]),
);

function config(flags: LoadOptions['flags'] = {}) {
  return loadConfig({ env: {}, flags: { 'server.model': 'dummy', ...flags }, workingDirectory: '/' }).config;
}

/** Keys of the secrets that a boot message with this slice would carry. */
function carried(slice: unknown): readonly string[] {
  const text = JSON.stringify(slice);
  return Object.keys(secrets).filter((key) => text.includes(secrets[key] as string));
}

describe('what a process is told of the config', () => {
  it('holds of all secrets those that it needs', () => {
    expect(Object.keys(secrets)).to.have.members([
      'server.sharedSecret',
      'redis.url',
      'redis.sentinelPassword',
      'http.token',
    ]);
    const all = config(secrets);
    expect(carried(all)).to.have.members(Object.keys(secrets));
    // It publishes to Redis itself, and checks the secret of clients.
    expect(carried(workerConfig(all))).to.have.members(['server.sharedSecret', 'redis.url', 'redis.sentinelPassword']);
    expect(carried(aggregatorConfig(all))).to.deep.equal(['http.token']);
  });

  it('has of Redis nothing, for a worker that publishes to its primary alone', () => {
    const { 'redis.url': _, ...withoutRedis } = secrets;
    expect(carried(workerConfig(config(withoutRedis)))).to.deep.equal(['server.sharedSecret']);
  });

  it('takes all variables that set secrets out of the environment of children', () => {
    expect(withoutSecrets).to.deep.equal({
      SHARED_SECRET: undefined,
      REDIS_URL: undefined,
      REDIS_SENTINEL_PASSWORD: undefined,
      HTTP_TOKEN: undefined,
    });
  });

  it('names each model that a worker serves, and only those, by its place in config', () => {
    const [model] = config().models;
    if (model === undefined) throw new Error('there is no model');
    const models = ['a', 'b'].map((name) => ({ ...model, name }));
    const at = { host: '127.0.0.1', port: 1, protocol: 'frames', tls: false } as const;
    const listeners = [{ ...at, model: 'b', models: ['b'] }];
    expect(workerConfig({ ...config(), models, listeners, hasListenerList: true })).to.deep.include({
      models: [{ ...model, name: 'b', responseSize: 5, place: 'models[1]' }],
      listeners,
    });
  });

  it('has no collector of spans where none are wanted', () => {
    const endpoint = { 'otlp.endpoint': 'http://127.0.0.1:4318' };
    expect(workerConfig(config()).otlp).to.equal(null);
    expect(workerConfig(config({ ...endpoint, 'otlp.traceRatio': '0' })).otlp).to.equal(null);
    expect(workerConfig(config(endpoint)).otlp).to.deep.include({ endpoint: 'http://127.0.0.1:4318', traceRatio: 1 });
  });
});
