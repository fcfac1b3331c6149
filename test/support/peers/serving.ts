// A server that all of them ask: one port for HTTP and gRPC, two workers, the models of models.ts.

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { temporaryFolder } from '../folder.js';
import { TestServer } from '../server.js';
import { writePeers } from './models.js';

export class PeersServer extends TestServer {
  /** @param sections of config beside models and listeners */
  constructor(sections: Readonly<Record<string, unknown>> = {}, env: Readonly<Record<string, string>> = {}) {
    const folder = temporaryFolder();
    const config = join(folder, 'config.json');
    // Some of them open a connection for each thing that they try, and close none.
    const server = { maxConnections: 1000 };
    const listeners = [{ host: '127.0.0.1', port: 0, protocol: 'open' }];
    writeFileSync(config, JSON.stringify({ models: writePeers(folder), listeners, server, ...sections }));
    super({ args: ['--config', config], env: { WORKERS: '2', ...env }, hasListeners: true });
  }

  /** host:port */
  async address(): Promise<string> {
    return `127.0.0.1:${await this.port()}`;
  }
}
