// The formats of settings that convict does not have itself, each with the sentence that a mistake is answered with.

import convict from 'convict';
import { parseHostPort, parseRedisUrl } from '../metrics/transport/redis-address.js';
import { isAddressRange, maxSecretBytes, maxWorkers } from './formats.js';

function format(
  name: string,
  validate: (value: unknown) => boolean,
  message: string,
  coerce?: (value: unknown) => unknown,
): void {
  convict.addFormat({
    name,
    validate: (value: unknown) => {
      if (!validate(value)) throw new Error(message);
    },
    ...(coerce === undefined ? {} : { coerce }),
  });
}

const toNumber = (value: unknown): unknown =>
  typeof value === 'string' && /^\s*-?\d+(\.\d+)?\s*$/.test(value) ? Number(value) : value;
const isWhole = (value: unknown): value is number => Number.isSafeInteger(value);

const logLevels = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'];
const pythonLevels: Readonly<Record<string, string>> = { warning: 'warn', critical: 'fatal' };

format('count', (value) => isWhole(value) && value > 0, 'must be a whole number above 0', toNumber);
format('countOrNone', (value) => isWhole(value) && value >= 0, 'must be a whole number, 0 or above', toNumber);
format(
  'countOrNull',
  (value) => value === null || (isWhole(value) && value >= 0),
  'must be a whole number, 0 or above',
  toNumber,
);
format(
  'seconds',
  (value) => typeof value === 'number' && value >= 0 && value <= 86_400,
  'must be a number of seconds from 0 to 86400',
  toNumber,
);
format(
  'positiveSeconds',
  (value) => typeof value === 'number' && value > 0 && value <= 86_400,
  'must be a number of seconds above 0, up to 86400',
  toNumber,
);
format(
  'keepAlive',
  // What Linux takes for TCP_KEEPIDLE; and it takes whole seconds.
  (value) => isWhole(value) && value >= 0 && value <= 32_767,
  'must be a whole number of seconds from 0 to 32767 (0: no keepalive)',
  toNumber,
);
format(
  'interval',
  (value) => isWhole(value) && value >= 10 && value <= 60_000,
  'must be a whole number of milliseconds from 10 to 60000',
  toNumber,
);
format(
  'hangTimeout',
  (value) => isWhole(value) && value >= 500 && value <= 3_600_000,
  'must be a whole number of milliseconds from 500 to 3600000',
  toNumber,
);
format(
  'portNumber',
  (value) => isWhole(value) && value >= 0 && value <= 65_535,
  'must be a port from 0 to 65535 (0: any free one)',
  toNumber,
);
format('lengthField', (value) => value === 2 || value === 4 || value === 8, 'must be 2, 4 or 8', toNumber);
format(
  'workers',
  (value) => value === 'auto' || (isWhole(value) && value > 0 && value <= maxWorkers),
  `must be 'auto' or a whole number from 1 to ${maxWorkers}`,
  toNumber,
);
format('text', (value) => typeof value === 'string' && value.length > 0, 'must be a text that is not empty');
format('textOrEmpty', (value) => typeof value === 'string', 'must be a text');
format(
  'label',
  (value) => typeof value === 'string' && /^[\w.:-]{1,64}$/.test(value),
  'must be 1 to 64 letters, digits or any of _ . : -',
);
format(
  'labelOrEmpty',
  (value) => typeof value === 'string' && /^[\w.:-]{0,64}$/.test(value),
  'must be up to 64 letters, digits or any of _ . : -',
);
convict.addFormat({
  name: 'redisUrl',
  validate: (value: unknown) => {
    if (typeof value !== 'string') throw new Error('must be a text');
    if (value !== '') parseRedisUrl(value);
  },
});
format(
  'httpUrl',
  (value) => typeof value === 'string' && (value === '' || /^https?:\/\/./.test(value)),
  'must be empty or begin with http:// or https://',
);
format(
  'ratio',
  (value) => typeof value === 'number' && value >= 0 && value <= 1,
  'must be a number from 0 to 1',
  toNumber,
);
format(
  'logLevel',
  (value) => logLevels.includes(value as string),
  `must be one of ${logLevels.join(', ')}`,
  (value) => {
    const level = String(value).toLowerCase();
    return pythonLevels[level] ?? level;
  },
);
/** As people write it in the environment. */
const toBoolean = (value: unknown): unknown => {
  const text = String(value).toLowerCase();
  if (['true', '1', 'yes', 'on'].includes(text)) return true;
  return ['false', '0', 'no', 'off'].includes(text) ? false : value;
};
format(
  'switch',
  (value) => typeof value === 'boolean',
  'must be true or false (in the environment also 1, 0, yes, no, on, off)',
  toBoolean,
);
format(
  'booleanOrNull',
  (value) => value === null || typeof value === 'boolean',
  'must be true or false',
  (value) => (typeof value === 'string' ? toBoolean(value) : value),
);
format('list', Array.isArray, 'must be a list');
format(
  'hostList',
  (value) => Array.isArray(value) && value.every((item) => typeof item === 'string' && parseHostPort(item) !== null),
  'must be a list of host:port, an IPv6 address in brackets: [::1]:26379',
  (value) => (typeof value === 'string' ? value.split(/[\s,]+/).filter((item) => item !== '') : value),
);
format(
  'origins',
  (value) =>
    Array.isArray(value) && value.every((item) => typeof item === 'string' && /^https?:\/\/[^/\s]+$/.test(item)),
  'must be a list of origins, as https://ops.example.com',
  (value) => (typeof value === 'string' ? value.split(',').filter((item) => item !== '') : value),
);
format(
  'basePath',
  (value) => typeof value === 'string' && /^\/([\w.~-]+\/)*$/.test(value),
  'must be a path, as /ml/',
  (value) => (typeof value === 'string' ? `/${value}/`.replace(/\/{2,}/g, '/') : value),
);
format(
  'addressRanges',
  (value) => Array.isArray(value) && value.every((item) => typeof item === 'string' && isAddressRange(item)),
  'must be a list of addresses or CIDR ranges, as 10.0.0.7, 10.0.0.0/8 or fd00::/8',
  (value) => (typeof value === 'string' ? value.split(',').filter((item) => item !== '') : value),
);
format(
  'secretOrEmpty',
  (value) => typeof value === 'string' && Buffer.byteLength(value) <= maxSecretBytes,
  `must be empty or a text of up to ${maxSecretBytes} bytes`,
);
format(
  'tokenOrEmpty',
  (value) => typeof value === 'string' && /^([\w.~+/-]+=*)?$/.test(value),
  'must be empty, or letters, digits and any of - . _ ~ + / = (RFC 6750): `openssl rand -hex 32` makes a good one',
);
format(
  'tlsVersion',
  (value) => value === 'TLSv1.2' || value === 'TLSv1.3',
  'must be TLSv1.2 or TLSv1.3: older ones are broken',
);
format(
  'settingsObject',
  (value) => typeof value === 'object' && value !== null && !Array.isArray(value),
  'must be an object',
);
format('backend', (value) => ['onnx', 'module', 'dummy'].includes(value as string), 'must be onnx, module or dummy');
format(
  'milliseconds',
  (value) => typeof value === 'number' && value >= 0 && value <= 3_600_000,
  'must be a number of milliseconds from 0 to 3600000',
  toNumber,
);
format(
  'batchTolerance',
  (value) => value === 'exact' || (typeof value === 'number' && value >= 0 && value <= 1),
  'must be exact or a number from 0 to 1',
  toNumber,
);
format(
  'version',
  (value) => typeof value === 'string' && /^(latest|\d+)$/.test(value),
  'must be latest or a whole number',
  (value) => (typeof value === 'number' ? String(value) : value),
);
format(
  'execution',
  (value) => ['inline', 'thread', 'auto'].includes(value as string),
  'must be inline, thread or auto',
);
format(
  'optimization',
  (value) => ['disabled', 'basic', 'extended', 'all'].includes(value as string),
  'must be disabled, basic, extended or all',
);
format('logFormat', (value) => ['auto', 'json', 'pretty'].includes(value as string), 'must be auto, json or pretty');
