import { expect } from 'chai';
import type { Listener } from '#src/config/listeners.js';
import { type LoadOptions, loadConfig } from '#src/config/load.js';
import { anyRoute, callsRoute, framesRoute, isAnyRoute, routesOf } from '#src/ipc/routes.js';
import { type Deployment, movableRoutes } from '#src/primary/deployment.js';

const listener = (port: number, protocol: Listener['protocol'], model: string | null = null): Listener => ({
  host: '127.0.0.1',
  port,
  protocol,
  models: model === null ? ['a', 'b'] : [model],
  model,
  tls: false,
});

const deployment = (listeners: readonly Listener[], flags: LoadOptions['flags'] = {}): Deployment => ({
  revision: 1,
  versions: {},
  config: { ...loadConfig({ env: {}, flags, workingDirectory: '/' }).config, listeners },
});

describe('the route of a connection', () => {
  it('is its model where payloads name none, and its listener where calls name theirs', () => {
    const listeners = [listener(1, 'frames', 'a'), listener(2, 'calls'), listener(0, 'open'), listener(0, 'auto', 'b')];
    const [, calls, open, auto] = listeners;
    expect([...routesOf(listeners)]).to.deep.equal([
      ['a', { protocol: 'frames', model: 'a' }],
      ['calls 127.0.0.1 2 0', { protocol: 'calls', listener: calls }],
      ['calls 127.0.0.1 0 0', { protocol: 'calls', listener: open }],
      ['any 127.0.0.1 0 0', { protocol: 'any', listener: open }],
      ['b', { protocol: 'frames', model: 'b' }],
      ['calls 127.0.0.1 0 1', { protocol: 'calls', listener: auto }],
      ['any 127.0.0.1 0 1', { protocol: 'any', listener: auto }],
    ]);
    expect([framesRoute('a'), callsRoute('127.0.0.1 2 0')]).to.deep.equal(['a', 'calls 127.0.0.1 2 0']);
    const any = anyRoute('127.0.0.1 2 0');
    expect([any, isAnyRoute(any), isAnyRoute('any'), isAnyRoute('calls 127.0.0.1 2 0')]).to.deep.equal([
      'any 127.0.0.1 2 0',
      true,
      false,
      false,
    ]);
  });

  const movable = (from: readonly Listener[], to: readonly Listener[]): readonly string[] =>
    movableRoutes(deployment(from), deployment(to));

  it('leads payloads to any listener of the same model, whatever its address', () => {
    expect(movable([listener(1, 'frames', 'a')], [listener(2, 'frames', 'a')])).to.deep.equal(['a']);
    expect(movable([listener(1, 'frames', 'a')], [listener(2, 'auto', 'a')])).to.deep.equal(['a']);
    expect(movable([listener(1, 'frames', 'a')], [listener(1, 'frames', 'b')])).to.deep.equal([]);
    // There, nobody reads payloads that name no model.
    expect(movable([listener(1, 'frames', 'a')], [listener(1, 'calls', 'a')])).to.deep.equal([]);
    expect(movable([listener(1, 'frames', 'a')], [listener(1, 'open', 'a')])).to.deep.equal([]);
  });

  it('leads calls to the same listener alone, as long as calls are spoken there', () => {
    const route = callsRoute('127.0.0.1 1 0');
    for (const protocol of ['calls', 'open', 'auto'] as const)
      expect(movable([listener(1, 'calls')], [listener(1, protocol)])).to.deep.equal([route]);
    expect(movable([listener(1, 'calls')], [listener(2, 'calls')])).to.deep.equal([]);
    expect(movable([listener(1, 'calls')], [listener(1, 'frames', 'a')])).to.deep.equal([]);
  });

  it('leads to the same listener, where several protocols are spoken, while none is told', () => {
    const route = anyRoute('127.0.0.1 1 0');
    expect(movable([listener(1, 'open')], [listener(1, 'auto', 'a')])).to.include(route);
    expect(movable([listener(1, 'auto', 'a')], [listener(1, 'open')])).to.include(route);
    expect(movable([listener(1, 'open')], [listener(2, 'open')])).to.deep.equal([]);
    expect(movable([listener(1, 'open')], [listener(1, 'calls')])).to.deep.equal([callsRoute('127.0.0.1 1 0')]);
  });

  it('ends where frames have lengths of another size', () => {
    const from = deployment([listener(1, 'frames', 'a'), listener(2, 'calls')]);
    expect(movableRoutes(from, from)).to.have.length(2);
    expect(movableRoutes(from, deployment(from.config.listeners, { 'server.lengthFieldSize': '8' }))).to.deep.equal([]);
  });
});
