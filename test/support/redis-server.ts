// A real Redis server on its own port, without persistence, which ends with the test.

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { RedisSettings } from '#src/metrics/transport/redis-connection.js';
import { freePort, TestProcess } from './processes.js';

export class RedisServer extends TestProcess {
  readonly port: number;

  private constructor(port: number, folder: string, more: readonly string[]) {
    const args = [
      '--port',
      String(port),
      '--bind',
      '127.0.0.1',
      '--save',
      '',
      '--appendonly',
      'no',
      '--dir',
      folder,
      ...more,
    ];
    super('redis-server', args);
    this.port = port;
    void this.exited.finally(() => rmSync(folder, { recursive: true, force: true })).catch(() => {});
  }

  /** @param more arguments of redis-server */
  static async start(port?: number, more: readonly string[] = []): Promise<RedisServer> {
    const redis = new RedisServer(port ?? (await freePort()), mkdtempSync(join(tmpdir(), 'mltcp-redis-')), more);
    await redis.line('a Redis server that accepts connections', (line) => line.includes('Ready to accept connections'));
    return redis;
  }

  get url(): string {
    return `redis://127.0.0.1:${this.port}`;
  }
}

/** Settings for it, as in config. */
export function redisSettings(url: string, more: Partial<RedisSettings> = {}): RedisSettings {
  return {
    url,
    nodes: [],
    masterName: '',
    sentinelUsername: '',
    sentinelPassword: '',
    sentinelTls: null,
    caFile: '',
    certFile: '',
    keyFile: '',
    keyPrefix: 'test',
    connectTimeoutMs: 1000,
    commandTimeoutMs: 1000,
    checkIntervalMs: 200,
    ...more,
  };
}
