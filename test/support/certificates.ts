// Certificates for tests, made by openssl: an authority, and what it signs.

import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { temporaryFolder } from './folder.js';

export interface Certificate {
  readonly certFile: string;
  readonly keyFile: string;
  readonly cert: Buffer;
  readonly key: Buffer;
}

const openssl = (...args: readonly string[]): void => {
  execFileSync('openssl', args, { stdio: 'pipe' });
};

export class Authority {
  readonly #folder = temporaryFolder();
  readonly #name: string;
  #issued = 0;

  constructor(name = 'ml-tcp-server tests') {
    this.#name = name;
    const subject = ['-subj', `/CN=${name}`, '-days', '2'];
    openssl(
      ...['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', ...subject],
      ...['-keyout', this.#file('ca.key'), '-out', this.certFile],
    );
  }

  get certFile(): string {
    return this.#file('ca.pem');
  }

  get cert(): Buffer {
    return readFileSync(this.certFile);
  }

  /**
   * Valid for localhost and 127.0.0.1, or for other `names`, for a server and a client.
   * @param days of validity from now; negative: it has expired
   */
  issue(commonName: string, days = 1, names = 'DNS:localhost,IP:127.0.0.1'): Certificate {
    const name = `${++this.#issued}`;
    const [keyFile, request, certFile, extensions] = ['key', 'csr', 'pem', 'ext'].map((end) =>
      this.#file(`${name}.${end}`),
    ) as [string, string, string, string];
    writeFileSync(extensions, `subjectAltName=${names}\n`);
    const ec = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];
    openssl('req', ...ec, '-subj', `/CN=${commonName}`, '-keyout', keyFile, '-out', request);
    const signer = ['-CA', this.certFile, '-CAkey', this.#file('ca.key'), '-CAcreateserial'];
    openssl('x509', '-req', '-in', request, '-out', certFile, '-extfile', extensions, ...signer, '-days', String(days));
    return { certFile, keyFile, cert: readFileSync(certFile), key: readFileSync(keyFile) };
  }

  #file(name: string): string {
    return join(this.#folder, `${this.#name.replaceAll(' ', '-')}.${name}`);
  }
}
