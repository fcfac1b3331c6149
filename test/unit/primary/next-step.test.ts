import { expect } from 'chai';
import { type LoadOptions, loadConfig } from '#src/config/load.js';
import { nextStep } from '#src/primary/next-step.js';

describe('the next step that the ready line proposes', () => {
  const proposed = (
    env: Readonly<Record<string, string>>,
    more: { flags?: LoadOptions['flags']; url?: string; rowBytes?: number | null; npm?: boolean } = {},
  ): string => {
    const { flags = {}, url = 'http://127.0.0.1:8080', rowBytes = null, npm = false } = more;
    const { config } = loadConfig({ env, flags, workingDirectory: '/' });
    const addresses = config.listeners.map(({ host, port, model }) => ({ host, port, model }));
    const started = npm ? { npm_lifecycle_event: 'start', npm_package_name: 'ml-tcp-server' } : {};
    const sizes = { digits: 256, [config.server.model]: rowBytes };
    return nextStep({ config, addresses, rowBytes: sizes, metricsUrl: url, env: started });
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
});
