// A real nginx in front of the aggregator.

import { existsSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { delimiter, join } from 'node:path';
import { temporaryFolder } from './folder.js';
import { freePort, TestProcess } from './processes.js';
import { until } from './until.js';

const folders = [...(process.env.PATH ?? '').split(delimiter), '/usr/sbin'];
const executable = folders.map((folder) => join(folder, 'nginx')).find((file) => existsSync(file));

export const hasNginx = executable !== undefined;

export interface NginxOptions {
  /** Directives of `http { … }`, outside of the server. */
  readonly http?: string;
  /** What follows `listen HOST:PORT`. */
  readonly listen?: string;
  /** Directives of `server { … }`. */
  readonly server: string;
}

/** Resolves to its address, HOST:PORT, when it listens. */
export async function startNginx({ http = '', listen = '', server }: NginxOptions): Promise<string> {
  const folder = temporaryFolder();
  const port = await freePort();
  const address = `127.0.0.1:${port}`;
  const paths = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map(
    (kind) => `${kind}_temp_path ${folder}/${kind};`,
  );
  writeFileSync(
    `${folder}/nginx.conf`,
    `daemon off; master_process off; pid ${folder}/pid; error_log stderr warn;
     events { worker_connections 256; }
     http { access_log off; ${paths.join(' ')} ${http} server { listen ${address} ${listen}; ${server} } }`,
  );
  const nginx = new TestProcess(executable as string, ['-p', folder, '-c', `${folder}/nginx.conf`]);
  const ended = nginx.exited.then(() => {
    throw new Error(`nginx has ended:\n${nginx.output}`);
  });
  await Promise.race([ended, until('nginx to listen', () => isOpen(port))]);
  ended.catch(() => {});
  return address;
}

function isOpen(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1');
    socket.once('connect', () => resolve(true)).once('error', () => resolve(false));
    socket.once('connect', () => socket.destroy());
  });
}
