// Where Redis is according to the settings, and how to speak TLS with it. Opens no connections.

import { readFileSync } from 'node:fs';
import { isIP, isIPv6 } from 'node:net';
import { type ConnectionOptions, checkServerIdentity, createSecureContext, type PeerCertificate } from 'node:tls';

export interface RedisSettings {
  /** redis://[user:password@]host[:port][/db], or rediss:// for TLS. With `nodes` its port is not used. */
  readonly url: string;
  /** host:port of Sentinels, when `masterName` is set, or else of nodes of a Redis Cluster; empty: one server. */
  readonly nodes: readonly string[];
  readonly masterName: string;
  readonly sentinelUsername: string;
  readonly sentinelPassword: string;
  /** Whether Sentinels speak TLS; null: as the URL says. */
  readonly sentinelTls: boolean | null;
  /** Certificates to trust, as PEM; empty: those that Node trusts. */
  readonly caFile: string;
  /** Certificate and key that we show to Redis, as PEM; empty: none. */
  readonly certFile: string;
  readonly keyFile: string;
  readonly keyPrefix: string;
  readonly connectTimeoutMs: number;
  readonly commandTimeoutMs: number;
  /** How often each connection is proved to work. */
  readonly checkIntervalMs: number;
}

export interface RedisAddress {
  readonly host: string;
  readonly port: number;
}

export interface RedisUrl extends RedisAddress {
  readonly isTls: boolean;
  readonly username: string;
  readonly password: string;
  readonly db: number;
  /** IP version of the address that the host name is resolved to; 0: any. */
  readonly family: 0 | 4 | 6;
}

const defaultPort = 6379;

/** Throws an Error that says what is wrong with the URL, without quoting it: it may hold a password. */
export function parseRedisUrl(text: string): RedisUrl {
  if (!/^rediss?:\/\/./.test(text)) throw new Error('must begin with redis:// or rediss:// and name a host');
  let url: URL;
  try {
    url = new URL(text);
  } catch {
    throw new Error(
      'must be redis://[user:password@]host[:port][/db]; percent-encode what is special in a password, as %2F for /',
    );
  }
  const [, db = '0'] = /^\/?(\d{1,4})?\/?$/.exec(url.pathname) ?? [];
  if (!/^\/?(\d{1,4})?\/?$/.test(url.pathname) || url.hash !== '')
    throw new Error('must end with the number of a database, or nothing, after its host and port');
  for (const name of url.searchParams.keys())
    if (name !== 'family') throw new Error('may have no parameter but ?family=4 or ?family=6');
  const family = Number(url.searchParams.get('family') ?? 0);
  if (family !== 0 && family !== 4 && family !== 6) throw new Error('may have ?family=4 or ?family=6');
  try {
    return {
      isTls: url.protocol === 'rediss:',
      // The brackets of an IPv6 address belong to the URL.
      host: url.hostname.replace(/^\[|\]$/g, '') || 'localhost',
      port: Number(url.port || defaultPort),
      username: decodeURIComponent(url.username),
      password: decodeURIComponent(url.password),
      db: Number(db),
      family,
    };
  } catch {
    throw new Error('has a user or a password with a % that begins no percent-encoding: write it as %25');
  }
}

/** host:port, or [IPv6 address]:port; null when it is neither. */
export function parseHostPort(text: string): RedisAddress | null {
  const [, v6, name, port] = /^(?:\[([^\]\s]+)\]|([^\s:/@[\]]+)):(\d{1,5})$/.exec(text) ?? [];
  const host = v6 ?? name;
  if (host === undefined || (v6 !== undefined && !isIPv6(v6))) return null;
  return Number(port) > 0 && Number(port) <= 65_535 ? { host, port: Number(port) } : null;
}

/** An address as people write it. */
export const formatAddress = ({ host, port }: RedisAddress): string =>
  host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;

/** What the URL says, or the defaults without one. */
export function redisUrlOf({ url, caFile, certFile }: RedisSettings): RedisUrl {
  if (url !== '') return parseRedisUrl(url);
  // With nodes alone, setting a file for TLS turns TLS on.
  const isTls = caFile !== '' || certFile !== '';
  return { isTls, host: '', port: defaultPort, username: '', password: '', db: 0, family: 0 };
}

export type RedisTarget = 'server' | 'sentinel';

/**
 * The options of `tls.connect` in addition to host and port; null without TLS. The files are read each time, so that
 * the next connection uses renewed ones. Throws an Error that names the setting of a file that cannot be used.
 */
export function tlsFor(settings: RedisSettings, target: RedisTarget): ((host: string) => ConnectionOptions) | null {
  const url = redisUrlOf(settings);
  const isTls = target === 'sentinel' ? (settings.sentinelTls ?? url.isTls) : url.isTls;
  if (!isTls) return null;
  const read = (key: 'caFile' | 'certFile' | 'keyFile'): Buffer | undefined => {
    const file = settings[key];
    if (file === '') return undefined;
    try {
      return readFileSync(file);
    } catch (error) {
      throw new Error(`redis.${key}: cannot read ${file}: ${(error as Error).message}`);
    }
  };
  const [ca, cert, key] = [read('caFile'), read('certFile'), read('keyFile')];
  const files = { ...(ca && { ca }), ...(cert && { cert }), ...(key && { key }) };
  try {
    createSecureContext(files);
  } catch (error) {
    throw new Error(
      `redis.caFile, certFile, keyFile: no certificates and the key of one in PEM (an encrypted key must be decrypted first): ${(error as Error).message}`,
    );
  }
  return (host) => {
    // Sentinel and Cluster announce their servers by address, while certificates are for the name that people use.
    const names = [host, url.host].filter((name) => name !== '');
    const servername = names.find((name) => isIP(name) === 0);
    return {
      ...files,
      ...(servername === undefined ? {} : { servername }),
      checkServerIdentity: (_name: string, certificate: PeerCertificate) => {
        const faults = names.map((name) => checkServerIdentity(name, certificate));
        return faults.includes(undefined) ? undefined : faults[0];
      },
    };
  };
}
