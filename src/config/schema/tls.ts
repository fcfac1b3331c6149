// TLS of a TCP or HTTP listener.

import { setting } from '../setting.js';

/** @param section that has these settings; `what` speaks TLS with them; `prefix` of environment variables */
export function tlsSettings(section: string, what: string, prefix: string) {
  return {
    certFile: setting({
      doc: `PEM file with the certificate of the ${what}, and the chain behind it. Empty: no TLS. It is read again when it changes.`,
      format: 'textOrEmpty',
      default: '',
      env: `${prefix}_TLS_CERT_FILE`,
    }),
    keyFile: setting({
      doc: `PEM file with the key of ${section}.certFile, not encrypted, readable for the server's user alone.`,
      format: 'textOrEmpty',
      default: '',
      env: `${prefix}_TLS_KEY_FILE`,
    }),
    caFile: setting({
      doc: 'PEM file with the authorities that must have signed a certificate of each client. Empty: clients need none.',
      format: 'textOrEmpty',
      default: '',
      env: `${prefix}_TLS_CA_FILE`,
    }),
    minVersion: setting({
      doc: 'Oldest version of TLS that is spoken: TLSv1.2 or TLSv1.3.',
      format: 'tlsVersion',
      default: 'TLSv1.2',
      env: `${prefix}_TLS_MIN_VERSION`,
    }),
  };
}
