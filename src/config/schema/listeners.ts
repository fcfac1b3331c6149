// An entry of `listeners`: a port, and the model behind it.

import { type SettingsOf, setting } from '../setting.js';

export const listenerSchema = {
  host: setting({ doc: 'Address; empty means server.host.', format: 'textOrEmpty', default: '' }),
  port: setting({ doc: 'Port.', format: 'portNumber', default: 8081 }),
  model: setting({ doc: 'Name of the model that it serves.', format: 'label', default: '' }),
  tls: setting({
    doc: 'Whether clients must speak TLS; left out: if server.tls.certFile is set.',
    format: 'booleanOrNull',
    default: null,
  }),
};

export type ListenerEntry = SettingsOf<typeof listenerSchema>;
