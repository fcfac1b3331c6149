// Certificates of listeners: reads them from files, checks them, and reads them again when the files change, so that a
// renewed certificate is served without a restart. Open connections keep the certificate that they were opened with.

import { readFileSync, statSync } from 'node:fs';
import { createSecureContext, type SecureContextOptions } from 'node:tls';
import { messageOf, OperatorError } from '../errors.js';

export type TlsVersion = 'TLSv1.2' | 'TLSv1.3';

export interface TlsSettings {
  /** PEM: the certificate, followed by the intermediate certificates between it and the root. */
  readonly certFile: string;
  /** PEM, not encrypted. */
  readonly keyFile: string;
  /** PEM: the authority that must have signed a client's certificate; empty: clients need no certificate. */
  readonly caFile: string;
  readonly minVersion: TlsVersion;
}

/** Whether TLS is configured. */
export const usesTls = ({ certFile }: TlsSettings): boolean => certFile !== '';

/** What `tls.createServer` takes. */
export interface Certificates extends SecureContextOptions {
  readonly requestCert: boolean;
  readonly rejectUnauthorized: boolean;
}

/**
 * Throws OperatorError CONFIG_INVALID, naming the file, when a file cannot be read or the key does not belong to the
 * certificate.
 * @param section the section of config that has these settings, for messages
 */
export function readCertificates(settings: TlsSettings, section: string): Certificates {
  const { certFile, keyFile, caFile, minVersion } = settings;
  const read = (key: string, file: string): Buffer => {
    try {
      return readFileSync(file);
    } catch (error) {
      throw new OperatorError('CONFIG_INVALID', `${section}.${key}: cannot read ${file}: ${messageOf(error)}`);
    }
  };
  const hasCa = caFile !== '';
  const options = {
    cert: read('certFile', certFile),
    key: read('keyFile', keyFile),
    ...(hasCa ? { ca: read('caFile', caFile) } : {}),
    minVersion,
    requestCert: hasCa,
    rejectUnauthorized: hasCa,
  };
  try {
    createSecureContext(options);
  } catch (error) {
    throw new OperatorError(
      'CONFIG_INVALID',
      `${section}: ${certFile} and ${keyFile} are no certificate and its key in PEM (an encrypted key must be decrypted first): ${messageOf(error)}`,
    );
  }
  return options;
}

/** How often the files are checked for changes. */
const checkIntervalMs = 1000;

export interface CertificateEvents {
  onChange(certificates: Certificates): void;
  /** Called once for each change that cannot be used: the old certificates stay in use. */
  onFailure(reason: string): void;
}

export class CertificateWatch {
  readonly #settings: TlsSettings;
  readonly #section: string;
  readonly #events: CertificateEvents;
  readonly #timer: NodeJS.Timeout;
  #seen: string;

  constructor(settings: TlsSettings, section: string, events: CertificateEvents) {
    this.#settings = settings;
    this.#section = section;
    this.#events = events;
    this.#seen = stamp(settings);
    this.#timer = setInterval(this.#check, checkIntervalMs);
    this.#timer.unref();
  }

  close(): void {
    clearInterval(this.#timer);
  }

  readonly #check = (): void => {
    const now = stamp(this.#settings);
    if (now === this.#seen) return;
    this.#seen = now;
    try {
      this.#events.onChange(readCertificates(this.#settings, this.#section));
    } catch (error) {
      this.#events.onFailure(messageOf(error));
    }
  };
}

/** A text that changes when any of the files changes; a file that is missing right now is being replaced. */
function stamp({ certFile, keyFile, caFile }: TlsSettings): string {
  const files = [certFile, keyFile, caFile].filter((file) => file !== '');
  return files
    .map((file) => {
      const stat = statSync(file, { throwIfNoEntry: false });
      return `${stat?.mtimeMs} ${stat?.size} ${stat?.ino}`;
    })
    .join('|');
}
