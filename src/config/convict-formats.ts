// The formats of settings that convict does not have itself, each with the sentence that reports a mistake, and with
// the type of its values.

import convict from 'convict';
import type { Backend } from '../inference/backends/load.js';
import type { SessionSettings } from '../inference/backends/onnx.js';
import type { MaxBatchSize } from '../inference/batch-limits.js';
import type { BatchTolerance } from '../inference/model.js';
import type { PadSettings, TensorOverrides } from '../inference/overrides.js';
import type { Execution } from '../inference/served-model.js';
import { parseHostPort, parseRedisUrl } from '../metrics/transport/redis-address.js';
import type { TlsVersion } from '../net/certificates.js';
import type { LengthFieldSize } from '../protocol/frames.js';
import { isAddressRange, maxSecretBytes, maxWorkers } from './formats.js';
import { type ListenerProtocol, listenerProtocols } from './listener-protocols.js';
import { isConstants, isPad, isTensorInputs, isTensorOutputs } from './tensor-formats.js';

/** What a value must be to have type T. */
interface Format<T> {
  /** Throws Error with the sentence that reports a mistake. */
  readonly validate: (value: unknown) => asserts value is T;
  readonly coerce?: (value: unknown) => unknown;
}

function format<T>(
  isValid: (value: unknown) => boolean,
  message: string,
  coerce?: (value: unknown) => unknown,
): Format<T> {
  return {
    validate: (value) => {
      if (!isValid(value)) throw new Error(message);
    },
    ...(coerce === undefined ? {} : { coerce }),
  };
}

const redisUrl: Format<string> = {
  validate: (value) => {
    if (typeof value !== 'string') throw new Error('must be a text');
    if (value !== '') parseRedisUrl(value);
  },
};

const toNumber = (value: unknown): unknown =>
  typeof value === 'string' && /^\s*-?\d+(\.\d+)?\s*$/.test(value) ? Number(value) : value;
const isWhole = (value: unknown): value is number => Number.isSafeInteger(value);

const logLevels = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'];
const pythonLevels: Readonly<Record<string, string>> = { warning: 'warn', critical: 'fatal' };

/** Reads the usual spellings of booleans in the environment. */
const toBoolean = (value: unknown): unknown => {
  const text = String(value).toLowerCase();
  if (['true', '1', 'yes', 'on'].includes(text)) return true;
  return ['false', '0', 'no', 'off'].includes(text) ? false : value;
};

const formats = {
  count: format<number>((value) => isWhole(value) && value > 0, 'must be a whole number above 0', toNumber),
  countOrNone: format<number>((value) => isWhole(value) && value >= 0, 'must be a whole number, 0 or above', toNumber),
  countOrNull: format<number | null>(
    (value) => value === null || (isWhole(value) && value >= 0),
    'must be a whole number, 0 or above',
    toNumber,
  ),
  /** What is kept travels in records, several times a second. */
  kept: format<number>(
    (value) => isWhole(value) && value >= 0 && value <= 100,
    'must be a whole number from 0 to 100',
    toNumber,
  ),
  seconds: format<number>(
    (value) => typeof value === 'number' && value >= 0 && value <= 86_400,
    'must be a number of seconds from 0 to 86400',
    toNumber,
  ),
  positiveSeconds: format<number>(
    (value) => typeof value === 'number' && value > 0 && value <= 86_400,
    'must be a number of seconds above 0, up to 86400',
    toNumber,
  ),
  keepAlive: format<number>(
    // The values that Linux accepts for TCP_KEEPIDLE, in whole seconds.
    (value) => isWhole(value) && value >= 0 && value <= 32_767,
    'must be a whole number of seconds from 0 to 32767 (0: no keepalive)',
    toNumber,
  ),
  interval: format<number>(
    (value) => isWhole(value) && value >= 10 && value <= 60_000,
    'must be a whole number of milliseconds from 10 to 60000',
    toNumber,
  ),
  hangTimeout: format<number>(
    (value) => isWhole(value) && value >= 500 && value <= 3_600_000,
    'must be a whole number of milliseconds from 500 to 3600000',
    toNumber,
  ),
  portNumber: format<number>(
    (value) => isWhole(value) && value >= 0 && value <= 65_535,
    'must be a port from 0 to 65535 (0: any free one)',
    toNumber,
  ),
  lengthField: format<LengthFieldSize>(
    (value) => value === 2 || value === 4 || value === 8,
    'must be 2, 4 or 8',
    toNumber,
  ),
  workers: format<number | 'auto'>(
    (value) => value === 'auto' || (isWhole(value) && value > 0 && value <= maxWorkers),
    `must be 'auto' or a whole number from 1 to ${maxWorkers}`,
    toNumber,
  ),
  text: format<string>((value) => typeof value === 'string' && value.length > 0, 'must be a text that is not empty'),
  textOrEmpty: format<string>((value) => typeof value === 'string', 'must be a text'),
  label: format<string>(
    (value) => typeof value === 'string' && /^[\w.:-]{1,64}$/.test(value),
    'must be 1 to 64 letters, digits or any of _ . : -',
  ),
  labelOrEmpty: format<string>(
    (value) => typeof value === 'string' && /^[\w.:-]{0,64}$/.test(value),
    'must be up to 64 letters, digits or any of _ . : -',
  ),
  labels: format<readonly string[]>(
    (value) => Array.isArray(value) && value.every((item) => typeof item === 'string' && /^[\w.:-]{1,64}$/.test(item)),
    'must be a list of names, each of 1 to 64 letters, digits or any of _ . : -',
  ),
  listenerProtocol: format<ListenerProtocol>(
    (value) => (listenerProtocols as readonly unknown[]).includes(value),
    `must be one of ${listenerProtocols.join(', ')}`,
  ),
  redisUrl,
  httpUrl: format<string>(
    (value) => typeof value === 'string' && (value === '' || /^https?:\/\/./.test(value)),
    'must be empty or begin with http:// or https://',
  ),
  ratio: format<number>(
    (value) => typeof value === 'number' && value >= 0 && value <= 1,
    'must be a number from 0 to 1',
    toNumber,
  ),
  logLevel: format<string>(
    (value) => logLevels.includes(value as string),
    `must be one of ${logLevels.join(', ')}`,
    (value) => {
      const level = String(value).toLowerCase();
      return pythonLevels[level] ?? level;
    },
  ),
  switch: format<boolean>(
    (value) => typeof value === 'boolean',
    'must be true or false (in the environment also 1, 0, yes, no, on, off)',
    toBoolean,
  ),
  booleanOrNull: format<boolean | null>(
    (value) => value === null || typeof value === 'boolean',
    'must be true or false',
    (value) => (typeof value === 'string' ? toBoolean(value) : value),
  ),
  list: format<readonly unknown[]>(Array.isArray, 'must be a list'),
  hostList: format<readonly string[]>(
    (value) => Array.isArray(value) && value.every((item) => typeof item === 'string' && parseHostPort(item) !== null),
    'must be a list of host:port, an IPv6 address in brackets: [::1]:26379',
    (value) => (typeof value === 'string' ? value.split(/[\s,]+/).filter((item) => item !== '') : value),
  ),
  origins: format<readonly string[]>(
    (value) =>
      Array.isArray(value) && value.every((item) => typeof item === 'string' && /^https?:\/\/[^/\s]+$/.test(item)),
    'must be a list of origins, as https://ops.example.com',
    (value) => (typeof value === 'string' ? value.split(',').filter((item) => item !== '') : value),
  ),
  basePath: format<string>(
    (value) => typeof value === 'string' && /^\/([\w.~-]+\/)*$/.test(value),
    'must be a path, as /ml/',
    (value) => (typeof value === 'string' ? `/${value}/`.replace(/\/{2,}/g, '/') : value),
  ),
  addressRanges: format<readonly string[]>(
    (value) => Array.isArray(value) && value.every((item) => typeof item === 'string' && isAddressRange(item)),
    'must be a list of addresses or CIDR ranges, as 10.0.0.7, 10.0.0.0/8 or fd00::/8',
    (value) => (typeof value === 'string' ? value.split(',').filter((item) => item !== '') : value),
  ),
  secretOrEmpty: format<string>(
    (value) => typeof value === 'string' && Buffer.byteLength(value) <= maxSecretBytes,
    `must be empty or a text of up to ${maxSecretBytes} bytes`,
  ),
  tokenOrEmpty: format<string>(
    (value) => typeof value === 'string' && /^([\w.~+/-]+=*)?$/.test(value),
    'must be empty, or letters, digits and any of - . _ ~ + / = (RFC 6750): `openssl rand -hex 32` makes a good one',
  ),
  tlsVersion: format<TlsVersion>(
    (value) => value === 'TLSv1.2' || value === 'TLSv1.3',
    'must be TLSv1.2 or TLSv1.3: older ones are broken',
  ),
  settingsObject: format<Readonly<Record<string, unknown>>>(
    (value) => typeof value === 'object' && value !== null && !Array.isArray(value),
    'must be an object',
  ),
  tensorInputs: format<TensorOverrides['inputs']>(
    isTensorInputs,
    'must be an object of inputs, each with batchAxis (a whole number, shared or none) or shape (a list of whole numbers; null, -1 or a name where it is dynamic)',
  ),
  tensorOutputs: format<TensorOverrides['outputs']>(
    isTensorOutputs,
    'must be a list of names, or an object of outputs, each with batchAxis (a whole number, shared or none) or returned (true or false)',
  ),
  constants: format<TensorOverrides['constants']>(
    isConstants,
    'must be an object of inputs, each with a number, a text, a boolean or lists of these',
  ),
  pad: format<PadSettings | null>(
    isPad,
    'must be an object with axis, inputs (names), buckets (ascending whole numbers) and outputs (axes by name); mask (a name) and value (a number) may be left out',
  ),
  backend: format<Backend>(
    (value) => ['onnx', 'module', 'dummy'].includes(value as string),
    'must be onnx, module or dummy',
  ),
  milliseconds: format<number>(
    (value) => typeof value === 'number' && value >= 0 && value <= 3_600_000,
    'must be a number of milliseconds from 0 to 3600000',
    toNumber,
  ),
  positiveMilliseconds: format<number>(
    (value) => typeof value === 'number' && value > 0 && value <= 3_600_000,
    'must be a number of milliseconds above 0, up to 3600000',
    toNumber,
  ),
  batchSize: format<MaxBatchSize>(
    (value) => value === 'auto' || (isWhole(value) && value > 0),
    'must be auto or a whole number above 0',
    toNumber,
  ),
  batchTolerance: format<BatchTolerance>(
    (value) => value === 'exact' || (typeof value === 'number' && value >= 0 && value <= 1),
    'must be exact or a number from 0 to 1',
    toNumber,
  ),
  version: format<string>(
    (value) => typeof value === 'string' && /^(latest|\d+)$/.test(value),
    'must be latest or a whole number',
    (value) => (typeof value === 'number' ? String(value) : value),
  ),
  execution: format<Execution>(
    (value) => ['inline', 'thread', 'auto'].includes(value as string),
    'must be inline, thread or auto',
  ),
  optimization: format<SessionSettings['graphOptimizationLevel']>(
    (value) => ['disabled', 'basic', 'extended', 'all'].includes(value as string),
    'must be disabled, basic, extended or all',
  ),
  logFormat: format<'auto' | 'json' | 'pretty'>(
    (value) => ['auto', 'json', 'pretty'].includes(value as string),
    'must be auto, json or pretty',
  ),
};

/** The type of the values of each format, by its name. */
export type FormatTypes = {
  readonly [Name in keyof typeof formats]: (typeof formats)[Name] extends Format<infer T> ? T : never;
};

/** The sentence that reports a mistake in a value of this format; null when there is none. */
export function mistakeIn(format: unknown, value: unknown): string | null {
  const name = Object.keys(formats).find((known) => known === format) as keyof typeof formats | undefined;
  if (name === undefined) return 'must not be an object';
  const checks: Format<unknown> = formats[name];
  try {
    checks.validate(value);
    return null;
  } catch (error) {
    return (error as Error).message;
  }
}

for (const [name, checks] of Object.entries(formats)) convict.addFormat({ name, ...checks });
