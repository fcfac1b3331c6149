// Redis, which carries metrics between several machines.

import { type SettingsOf, setting } from '../setting.js';

export const redis = {
  url: setting({
    doc: 'Redis that metrics travel through: redis://[user:password@]host[:port][/db], rediss:// for TLS. Empty keeps them in this process tree, with an aggregator of its own.',
    format: 'redisUrl',
    default: '',
    env: 'REDIS_URL',
    sensitive: true,
  }),
  nodes: setting({
    doc: 'host:port of Sentinels (with redis.masterName) or of some nodes of a Redis Cluster (without it); an IPv6 address in brackets: [::1]:26379. redis.url then gives user, password, database, TLS and the host name that certificates may be for.',
    format: 'hostList',
    default: [],
    env: 'REDIS_NODES',
  }),
  masterName: setting({
    doc: 'Name of the master that the Sentinels of redis.nodes watch.',
    format: 'textOrEmpty',
    default: '',
    env: 'REDIS_MASTER_NAME',
  }),
  sentinelUsername: setting({
    doc: 'User of the Sentinels themselves, where they have an ACL.',
    format: 'textOrEmpty',
    default: '',
    env: 'REDIS_SENTINEL_USERNAME',
  }),
  sentinelPassword: setting({
    doc: 'Password of the Sentinels themselves.',
    format: 'textOrEmpty',
    default: '',
    env: 'REDIS_SENTINEL_PASSWORD',
    sensitive: true,
  }),
  sentinelTls: setting({
    doc: 'Whether Sentinels speak TLS; left out: if redis.url begins with rediss://.',
    format: 'booleanOrNull',
    default: null,
    env: 'REDIS_SENTINEL_TLS',
  }),
  caFile: setting({
    doc: 'PEM file with the certificates to trust when Redis is reached by TLS. Empty: those that Node trusts. It is read again for each connection.',
    format: 'textOrEmpty',
    default: '',
    env: 'REDIS_CA_FILE',
  }),
  certFile: setting({
    doc: 'PEM file with the certificate to show to a Redis that wants one (tls-auth-clients). Empty: none.',
    format: 'textOrEmpty',
    default: '',
    env: 'REDIS_CERT_FILE',
  }),
  keyFile: setting({
    doc: 'PEM file with the key of redis.certFile, not encrypted.',
    format: 'textOrEmpty',
    default: '',
    env: 'REDIS_KEY_FILE',
  }),
  keyPrefix: setting({ doc: 'First part of all keys in Redis.', format: 'label', default: 'mltcp' }),
  connectTimeoutMs: setting({
    doc: 'Time to connect to Redis before the next attempt.',
    format: 'interval',
    default: 2000,
  }),
  commandTimeoutMs: setting({
    doc: 'Time for Redis to answer before its connection counts as lost.',
    format: 'interval',
    default: 1000,
  }),
  checkIntervalMs: setting({
    doc: 'How often each connection to Redis must prove that it works: that somebody answers, and takes writes. One that cannot is replaced; what is gone without a word is noticed after this time and redis.commandTimeoutMs.',
    format: 'interval',
    default: 1000,
  }),
};

export type RedisSettings = SettingsOf<typeof redis>;
