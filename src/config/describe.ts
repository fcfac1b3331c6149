// The effective settings as text or JSON, each with where it came from; secrets are masked.

import { type LoadedConfig, leafKeys, leafSchema } from './load.js';
import { type Settings, schema } from './schema/schema.js';

export interface DescribedSetting {
  readonly key: string;
  readonly value: unknown;
  readonly source: string;
}

export function describeConfig({ config, sources }: LoadedConfig): readonly DescribedSetting[] {
  return [...leafKeys(schema)].map((key) => {
    const value = key.split('.').reduce<unknown>((node, name) => (node as Record<string, unknown>)[name], config);
    return { key, value: leafSchema(key).sensitive ? masked(String(value)) : value, source: sources.get(key) ?? '' };
  });
}

/** A secret as it may be shown: a URL without its password, all else masked. */
function masked(secret: string): string {
  return secret === '' || secret.includes('//') ? maskUrl(secret) : '***';
}

/**
 * A URL with everything between the user's name and the @ masked; a name without a password is masked too, since many
 * who write one mean a password.
 */
export function maskUrl(url: string): string {
  return url.replace(/\/\/([^/]*)@/, (_, userInfo: string) => {
    const [user, ...password] = userInfo.split(':');
    return password.length === 0 ? '//***@' : `//${user}:***@`;
  });
}

/** Where Redis is, for logs, without secrets. */
export function describeRedis({ url, nodes, masterName }: Settings['redis']): string {
  if (nodes.length === 0) return maskUrl(url);
  return masterName === '' ? `cluster ${nodes.join(',')}` : `${masterName} of sentinels ${nodes.join(',')}`;
}

/** The identity of a server without Redis: its counts end with it. */
export const embeddedIdentity = 'embedded';

/** Identifies a cluster: equal for two processes exactly when they count for the same one. */
export function clusterIdentity({ redis, cluster, metrics }: Pick<Settings, 'redis' | 'cluster' | 'metrics'>): string {
  const where = describeRedis(redis);
  // Counts that a ledger keeps outlive the process tree.
  const embedded = metrics.ledgerFolder === '' ? embeddedIdentity : `${embeddedIdentity} ${metrics.ledgerFolder}`;
  return where === '' ? embedded : `${where} ${redis.keyPrefix}:${cluster.name}`;
}

export function formatConfig(settings: readonly DescribedSetting[]): string {
  const rows = settings.map(({ key, value, source }) => [key, JSON.stringify(value), source] as const);
  const keyWidth = Math.max(...rows.map(([key]) => key.length));
  const valueWidth = Math.min(32, Math.max(...rows.map(([, value]) => value.length)));
  return rows
    .map(([key, value, source]) => `${key.padEnd(keyWidth)}  ${value.padEnd(valueWidth)}  ${source}`)
    .join('\n');
}
