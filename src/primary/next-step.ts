// What the `ready` line suggests to try next: a simulation that fits the model that is served; where no listener takes
// payloads as they are, a request over HTTP.

import { isIP } from 'node:net';
import { resolve, sep } from 'node:path';
import { takesHttp, takesRawFrames } from '../config/listener-protocols.js';
import { type Config, packageRoot } from '../config/load.js';
import type { ListenAddress } from '../ipc/messages.js';
import { usesTls } from '../net/certificates.js';

export interface NextStep {
  readonly config: Pick<Config, 'server' | 'listeners' | 'models' | 'http'>;
  readonly addresses: readonly ListenAddress[];
  /** By model: bytes of one input row; null where any length may be right. */
  readonly rowBytes: Readonly<Record<string, number | null>>;
  /** Empty when another process serves the metrics. */
  readonly metricsUrl: string;
  readonly env: Readonly<Record<string, string | undefined>>;
}

const digitsFolder = resolve(packageRoot, 'config/models/digits');
const defaultMetricsUrl = 'http://127.0.0.1:8080';

/** A command and what it does. Words in capitals are placeholders that only the reader can fill in. */
export function nextStep(step: NextStep): string {
  const { config, addresses, metricsUrl, env } = step;
  const raw = addresses.filter(isRaw);
  const address = raw.find(({ model }) => isDigits(config, model)) ?? raw[0];
  const metrics = metricsUrl === '' ? 'ml-tcp-server aggregator serves the metrics; ' : '';
  if (address === undefined) return `${metrics}${typedStep(config, addresses)}`;
  const isSecure = isSecureAt(config, address);
  if (isSecure && config.server.tls.caFile !== '')
    return `${metrics}a client with a certificate of its own: see ml-tcp-server/client`;
  const { flags, does } = payloadOf(step, address.model);
  const secrets = [
    ...(config.server.sharedSecret === '' ? [] : ['SHARED_SECRET=SECRET']),
    ...(config.http.token === '' || metricsUrl === '' ? [] : ['HTTP_TOKEN=TOKEN']),
  ];
  const command =
    env.npm_lifecycle_event === 'start' && env.npm_package_name === 'ml-tcp-server'
      ? ['npm', 'run', 'simulate', '--']
      : ['npx', 'ml-tcp-server', 'simulate'];
  const words = [
    ...secrets,
    ...command,
    ...connectFlags(address, isSecure),
    ...(config.server.lengthFieldSize === 4 ? [] : ['--length-field-size', String(config.server.lengthFieldSize)]),
    ...flags,
    ...metricsFlags(config, metricsUrl),
  ];
  return `${metrics}${words.join(' ')} ${does}`;
}

type RawAddress = ListenAddress & { readonly model: string };

/** Whether it takes payloads as they are. */
function isRaw(address: ListenAddress): address is RawAddress {
  return takesRawFrames(address.protocol) && address.model !== null;
}

function isSecureAt({ listeners, server }: NextStep['config'], address: ListenAddress): boolean {
  const listener = listeners.find(({ port, model }) => port === address.port && model === address.model);
  return listener?.tls ?? usesTls(server.tls);
}

/** For clients that name the model. */
function typedStep(config: NextStep['config'], addresses: readonly ListenAddress[]): string {
  const address = addresses.find(({ protocol }) => takesHttp(protocol));
  if (address === undefined)
    return addresses.length === 0 ? '' : 'a client of ml-tcp-server/proto/mltcp.proto: see src/protocol/README.md';
  const isSecure = isSecureAt(config, address);
  const model = address.model ?? address.models.find((name) => isDigits(config, name)) ?? address.models[0];
  const name = isSecure ? 'NAME-IN-THE-CERTIFICATE' : inUrl(reachable(address));
  const words = [
    'curl',
    ...(isSecure ? ['--cacert', 'CA.pem'] : []),
    ...(isSecure && config.server.tls.caFile !== '' ? ['--cert', 'CERTIFICATE.pem', '--key', 'KEY.pem'] : []),
    ...(config.server.sharedSecret === '' ? [] : ["-H 'Authorization: Bearer SECRET'"]),
    `${isSecure ? 'https' : 'http'}://${name}:${address.port}/v2/models/${model}`,
  ];
  return `${words.join(' ')} tells what ${model} takes`;
}

/** An address that a client on this machine can use. */
function reachable({ host }: ListenAddress): string {
  return { '0.0.0.0': '127.0.0.1', '::': '::1' }[host] ?? host;
}

const inUrl = (host: string): string => (isIP(host) === 6 ? `[${host}]` : host);

function isDigits({ models }: Pick<Config, 'models'>, name: string): boolean {
  const path = models.find((model) => model.name === name)?.path ?? '';
  return path === digitsFolder || path.startsWith(digitsFolder + sep);
}

function payloadOf({ config, rowBytes }: NextStep, model: string): { flags: readonly string[]; does: string } {
  if (isDigits(config, model)) return { flags: [], does: 'sends digits and checks every reply' };
  const size = rowBytes[model];
  // The model has run on zeros before its port opened; random bytes may not be valid numbers, or indices that it knows.
  if (size !== null && size !== undefined)
    return { flags: ['--payload-size', String(size), '--zeros'], does: 'sends rows of zeros and compares the totals' };
  if (config.models.find(({ name }) => name === model)?.backend === 'dummy')
    return { flags: ['--payload-size', '64'], does: 'sends random bytes and compares the totals' };
  return { flags: ['--payload', 'FILE'], does: 'sends a payload of yours and compares the totals' };
}

function connectFlags(address: ListenAddress, isSecure: boolean): readonly string[] {
  const { port } = address;
  const name = isSecure ? 'NAME-IN-THE-CERTIFICATE' : reachable(address);
  return [
    ...(name === '127.0.0.1' ? [] : ['--host', name]),
    ...(port === 8081 ? [] : ['--port', String(port)]),
    ...(isSecure ? ['--tls-ca', 'CA.pem'] : []),
  ];
}

function metricsFlags({ http }: Pick<Config, 'http'>, url: string): readonly string[] {
  if (url === '' || usesTls(http.tls)) return ['--metrics', 'none'];
  return url === defaultMetricsUrl ? [] : ['--metrics', `${url.replace('//0.0.0.0', '//127.0.0.1')}/metrics`];
}
