import { expect } from 'chai';
import { type LoadOptions, loadConfig } from '#src/config/load.js';
import { listenerText } from '#src/listener-text.js';
import { nextStep } from '#src/primary/next-step.js';

describe('the next step that the ready line proposes', () => {
  const proposed = (
    env: Readonly<Record<string, string>>,
    more: { flags?: LoadOptions['flags']; url?: string; rowBytes?: number | null; npm?: boolean } = {},
  ): string => {
    const { flags = {}, url = 'http://127.0.0.1:8080', rowBytes = null, npm = false } = more;
    const { config } = loadConfig({ env, flags, workingDirectory: '/' });
    const started = npm ? { npm_lifecycle_event: 'start', npm_package_name: 'ml-tcp-server' } : {};
    const sizes = { digits: 256, [config.server.model]: rowBytes };
    return nextStep({ config, addresses: config.listeners, rowBytes: sizes, metricsUrl: url, env: started });
  };

  it('sends digits to the model of the digits alone', () => {
    expect(proposed({})).to.equal('npx ml-tcp-server simulate sends digits and checks every reply');
    expect(proposed({}, { npm: true })).to.equal('npm run simulate -- sends digits and checks every reply');
    const dummy = proposed({ MODEL: 'dummy' });
    expect(dummy).to.equal('npx ml-tcp-server simulate --payload-size 64 sends random bytes and compares the totals');
  });

  it('is for where this server listens, and for how it speaks', () => {
    const env = { PORT: '9000', HOST: '0.0.0.0', LENGTH_FIELD_SIZE: '2' };
    expect(proposed(env)).to.include('simulate --port 9000 --length-field-size 2 sends digits');
    expect(proposed({ HOST: '::' })).to.include('simulate --host ::1 sends');
    expect(proposed({ HOST: '10.0.0.7' })).to.include('simulate --host 10.0.0.7 sends');
    const elsewhere = proposed({}, { url: 'http://127.0.0.1:9100' });
    expect(elsewhere).to.include('simulate --metrics http://127.0.0.1:9100/metrics sends');
    const tls = { 'server.tls.certFile': 'c.pem', 'server.tls.keyFile': 'k.pem' };
    expect(proposed({}, { flags: tls })).to.include('--host NAME-IN-THE-CERTIFICATE --tls-ca CA.pem sends');
    expect(proposed({}, { flags: { ...tls, 'server.tls.caFile': 'ca.pem' } })).to.include('a certificate of its own');
  });

  it('names the aggregator where it is another process, and compares no totals then', () => {
    const step = proposed({ REDIS_URL: 'redis://127.0.0.1:1' }, { url: '' });
    expect(step).to.match(/^ml-tcp-server aggregator serves the metrics; npx .* --metrics none sends digits/);
  });

  it('never shows a secret', () => {
    const step = proposed({ SHARED_SECRET: 'hunter2', HTTP_TOKEN: 'hunter3' });
    expect(step).to.match(/^SHARED_SECRET=SECRET HTTP_TOKEN=TOKEN npx /);
    expect(step).not.to.include('hunter');
  });

  it('asks over HTTP where requests name their models, with what that needs', () => {
    const open = { PROTOCOL: 'open', PORT: '8000' };
    expect(proposed(open)).to.equal('curl http://127.0.0.1:8000/v2/models/digits tells what digits takes');
    expect(proposed({ ...open, HOST: '::' })).to.include('curl http://[::1]:8000/v2/models/digits tells');
    expect(proposed({ ...open, MODEL: 'dummy' })).to.include('http://127.0.0.1:8000/v2/models/dummy tells');
    const secret = proposed({ ...open, SHARED_SECRET: 'hunter2' });
    expect(secret).to.include("curl -H 'Authorization: Bearer SECRET' http://").and.not.to.include('hunter');
    const tls = { 'server.tls.certFile': 'c.pem', 'server.tls.keyFile': 'k.pem' };
    expect(proposed(open, { flags: tls })).to.include('curl --cacert CA.pem https://NAME-IN-THE-CERTIFICATE:8000/v2/');
    expect(proposed(open, { flags: { ...tls, 'server.tls.caFile': 'ca.pem' } })).to.include(
      'curl --cacert CA.pem --cert CERTIFICATE.pem --key KEY.pem https://',
    );
    expect(proposed({ PROTOCOL: 'calls' })).to.match(/^a client of ml-tcp-server\/proto\/mltcp.proto/);
    expect(proposed({ PROTOCOL: 'auto' })).to.equal('npx ml-tcp-server simulate sends digits and checks every reply');
  });
});

describe('a line of a listener', () => {
  const line = (env: Readonly<Record<string, string>>): string => {
    const [listener] = loadConfig({ env, workingDirectory: '/' }).config.listeners;
    if (listener === undefined) throw new Error('there is no listener');
    return listenerText(listener);
  };

  it('tells what is spoken there, and which models answer', () => {
    expect(line({})).to.equal('127.0.0.1:8081 → digits');
    expect(line({ PROTOCOL: 'calls' })).to.equal('127.0.0.1:8081 → calls: digits, dummy');
    expect(line({ PROTOCOL: 'open', PORT: '8000' })).to.equal('127.0.0.1:8000 → http, grpc: digits, dummy');
    expect(line({ PROTOCOL: 'auto' })).to.equal('127.0.0.1:8081 → frames: digits; calls, http, grpc: digits, dummy');
  });

  it('tells the model alone, where a server of an earlier version tells no more', () => {
    expect(listenerText({ host: '::1', port: 9000, model: 'mine' })).to.equal('::1:9000 → mine');
  });
});
