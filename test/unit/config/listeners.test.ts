import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import { type LoadedConfig, loadConfig } from '#src/config/load.js';
import { listenerSchema } from '#src/config/schema/listeners.js';
import { server } from '#src/config/schema/server.js';
import { workerConfig } from '#src/config/slices.js';
import { OperatorError } from '#src/errors.js';
import { temporaryFolder } from '../../support/folder.js';

describe('a listener in config', () => {
  const folder = temporaryFolder();
  const load = (file: object, env: Readonly<Record<string, string>> = {}): LoadedConfig => {
    writeFileSync(join(folder, 'config.json'), JSON.stringify(file));
    return loadConfig({ env, file: 'config.json', workingDirectory: folder });
  };
  const mistake = (file: object, env: Readonly<Record<string, string>> = {}): string => {
    try {
      load(file, env);
    } catch (error) {
      expect(error).to.be.instanceOf(OperatorError).with.property('code', 'CONFIG_INVALID');
      return (error as Error).message;
    }
    throw new Error('the configuration was accepted');
  };
  /** Models of these names, as config has them. */
  const named = (...names: readonly string[]) => ({ models: names.map((name) => ({ name, path: `${name}.onnx` })) });
  /** The one listener of such a config. */
  const listener = (file: object, env: Readonly<Record<string, string>> = {}) => {
    const { listeners } = load(file, env).config;
    expect(listeners).to.have.length(1);
    return listeners[0];
  };

  it('speaks frames unless config says otherwise', () => {
    expect(listenerSchema.protocol.default).to.equal('frames');
    expect(server.protocol.default).to.equal('frames');
    expect(listener({})).to.include({ protocol: 'frames', model: 'digits' });
    expect(listener({ listeners: [{ port: 1, model: 'digits' }] })).to.include({ protocol: 'frames', model: 'digits' });
  });

  it('speaks what config says, and serves all models there, unless a list restricts it', () => {
    expect(listener(named('a', 'b'), { PROTOCOL: 'open' })).to.deep.include({
      protocol: 'open',
      models: ['a', 'b', 'dummy'],
      model: null,
    });
    for (const protocol of ['calls', 'open', 'auto'])
      expect(
        listener({ ...named('a', 'b', 'c'), listeners: [{ port: 1, protocol, models: ['b', 'c', 'b'], model: 'c' }] }),
      ).to.deep.include({ protocol, models: ['b', 'c'], model: 'c' });
  });

  it('has the only model as its default: not a dummy that nobody named', () => {
    expect(listener(named('mine'))).to.deep.include({ models: ['mine'], model: 'mine' });
    expect(load(named('mine')).config.server.model).to.equal('mine');
    expect(load(named('mine')).sources.get('server.model')).to.equal('the only model of config');
    expect(listener(named('mine', 'dummy'))).to.deep.include({ model: 'mine' });
    for (const protocol of ['calls', 'open', 'auto'])
      expect(listener({ ...named('mine'), listeners: [{ port: 1, protocol }] })).to.deep.include({
        models: ['mine', 'dummy'],
        model: 'mine',
      });
    expect(listener({ ...named('mine'), listeners: [{ port: 1 }] })).to.deep.include({
      models: ['mine'],
      model: 'mine',
    });
    const restricted = { ...named('a', 'b'), listeners: [{ port: 1, protocol: 'open', models: ['dummy'] }] };
    expect(listener(restricted)).to.deep.include({ models: ['dummy'], model: 'dummy' });
  });

  it('serves digits beside other models, as long as config lists it, when none is chosen', () => {
    expect(listener(named('digits', 'other'))).to.include({ model: 'digits' });
    expect(listener(named('digits', 'other'), { MODEL: 'other' })).to.include({ model: 'other' });
  });

  it('needs a model for payloads that name none', () => {
    const frames = mistake(named('a', 'b'));
    expect(frames).to.include(
      'server.model (from config/default.json): payloads in the protocol frames name no model, so that it needs one: choose one of a, b, dummy',
    );
    expect(mistake({ ...named('a', 'b'), listeners: [{ port: 1, protocol: 'auto' }] })).to.include(
      'listeners[0].model: payloads in the protocol auto name no model',
    );
    // Nobody asked for a dummy.
    expect(mistake({ models: [] })).to.include('choose one of dummy');
    for (const protocol of ['calls', 'open'])
      expect(listener({ ...named('a', 'b'), listeners: [{ port: 1, protocol }] })).to.include({ model: null });
  });

  it('refuses a list of models where requests name none', () => {
    expect(mistake({ ...named('a'), listeners: [{ port: 1, model: 'a', models: ['a'] }] })).to.include(
      'listeners[0].models: in the protocol frames requests name no model, so that a listener serves one: name it with listeners[0].model, or set listeners[0].protocol to calls, open or auto',
    );
  });

  it('names models that config has', () => {
    const listeners = [
      { port: 1, protocol: 'open', models: ['a', 'nope'], model: 'no' },
      { port: 2, protocol: 'calls', models: ['a'], model: 'b' },
      { port: 3, protocol: 'calls', model: 'never' },
    ];
    const message = mistake({ ...named('a', 'b'), listeners });
    expect(message).to.include('has 4 mistakes');
    for (const expected of [
      'listeners[0].models: there is no model named "nope": choose one of a, b, dummy, or add it to models',
      'listeners[0].model: there is no model named "no"',
      'listeners[1].model: b is not one of listeners[1].models: add it there, or choose one of them',
      'listeners[2].model: there is no model named "never"',
    ])
      expect(message).to.include(expected);
  });

  it('is refused when it has to tell apart what may begin alike', () => {
    const auto = { PROTOCOL: 'auto' };
    expect(mistake({}, { ...auto, LENGTH_FIELD_SIZE: '2' })).to.include(
      'server.protocol (from environment PROTOCOL): auto tells protocols apart by the first bytes of a connection, and in a length field of 2 bytes these may be any: set server.lengthFieldSize to 4 or 8',
    );
    // 0x41 is the letter A: the first length that begins with a letter is 0x41000000 bytes.
    expect(listener({}, { ...auto, MAX_PAYLOAD_SIZE_KB: '1064959' })).to.include({ protocol: 'auto' });
    expect(mistake({}, { ...auto, MAX_PAYLOAD_SIZE_KB: '1064960' })).to.include(
      'server.maxPayloadSizeKb (from environment MAX_PAYLOAD_SIZE_KB): a frame of so many KiB may begin with the same bytes as a request in HTTP, which a listener in the protocol auto takes it for: set at most 1064959',
    );
    const wide = { LENGTH_FIELD_SIZE: '8', MAX_PAYLOAD_SIZE_KB: '1064960' };
    expect(listener({}, { ...auto, ...wide })).to.include({ protocol: 'auto' });
    for (const PROTOCOL of ['frames', 'calls', 'open'])
      expect(listener({}, { PROTOCOL, LENGTH_FIELD_SIZE: '2', MAX_PAYLOAD_SIZE_KB: '1064960' })).to.include({
        protocol: PROTOCOL,
      });
  });

  it('has a secret that HTTP can carry, where it speaks HTTP', () => {
    const secret = { SHARED_SECRET: 'two words: ä' };
    for (const PROTOCOL of ['open', 'auto']) {
      const message = mistake({}, { ...secret, PROTOCOL });
      expect(message).to.include('server.sharedSecret (from environment SHARED_SECRET): clients over HTTP and gRPC');
      expect(message).not.to.include('two words');
      expect(listener({}, { SHARED_SECRET: 'dGhl.secret-1_~+/==', PROTOCOL })).to.include({ protocol: PROTOCOL });
    }
    for (const PROTOCOL of ['frames', 'calls'])
      expect(listener({}, { ...secret, PROTOCOL })).to.include({ protocol: PROTOCOL });
  });

  it('is set in one place', () => {
    const listeners = [{ port: 1, protocol: 'open' }];
    expect(mistake({ listeners }, { PROTOCOL: 'calls' })).to.include(
      'server.protocol: has no effect beside listeners (environment PROTOCOL; listeners from config.json)',
    );
    const wrong = mistake({ listeners: [{ port: 1, protocol: 'http', models: ['a b'] }] });
    expect(wrong).to.include('listeners[0].protocol: must be one of frames, calls, open, auto');
    expect(wrong).to.include('listeners[0].models: must be a list of names');
  });

  it('has a dummy whose replies fit its length field, where they travel as they are', () => {
    const env = { LENGTH_FIELD_SIZE: '2', RESPONSE_SIZE: '70000', MODEL: 'dummy' };
    expect(mistake({}, env)).to.include('70000 bytes do not fit a length field of 2 bytes');
    expect(listener({}, { ...env, PROTOCOL: 'open' })).to.include({ protocol: 'open', model: 'dummy' });
  });

  it('has every model that it serves loaded by workers, and no others', () => {
    const loaded = (listeners: readonly object[]): readonly string[] =>
      workerConfig(load({ ...named('a', 'b', 'c', 'd'), listeners }).config).models.map(({ name }) => name);
    expect(loaded([{ port: 1, model: 'b' }])).to.deep.equal(['b']);
    expect(
      loaded([
        { port: 1, protocol: 'calls', models: ['c', 'a'] },
        { port: 2, model: 'a' },
      ]),
    ).to.deep.equal(['a', 'c']);
    expect(loaded([{ port: 1, protocol: 'open' }])).to.deep.equal(['a', 'b', 'c', 'd', 'dummy']);
    expect(loaded([{ port: 1, protocol: 'auto', models: ['a', 'b'], model: 'a' }])).to.deep.equal(['a', 'b']);
  });

  it('comes to workers as it was resolved, with the limits of its protocol', () => {
    const { listeners, server: limits } = workerConfig(load(named('mine'), { PROTOCOL: 'open', PORT: '8000' }).config);
    expect(listeners).to.deep.equal([
      {
        host: '127.0.0.1',
        port: 8000,
        protocol: 'open',
        models: ['mine', 'dummy'],
        model: 'mine',
        tls: false,
      },
    ]);
    expect(limits).to.include({ maxJsonKb: 1024, maxHeaderKb: 16, httpIdleSeconds: 75 });
  });
});
