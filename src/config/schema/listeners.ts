// An entry of `listeners`: a port, the protocol that is spoken there, and the models behind it.

import { type SettingsOf, setting } from '../setting.js';

export const listenerSchema = {
  host: setting({ doc: 'Address; empty means server.host.', format: 'textOrEmpty', default: '' }),
  port: setting({ doc: 'Port.', format: 'portNumber', default: 8081 }),
  protocol: setting({ doc: 'As server.protocol, for this port.', format: 'listenerProtocol', default: 'frames' }),
  model: setting({
    doc: 'Name of the model that payloads in frames go to. In the other protocols requests name their models: it is the one of those that name none. Empty: the only model that the listener can serve, apart from a dummy that nobody listed.',
    format: 'labelOrEmpty',
    default: '',
  }),
  models: setting({
    doc: 'Names of the models that clients may ask, where requests name them. Empty: all models.',
    format: 'labels',
    default: [],
  }),
  tls: setting({
    doc: 'Whether clients must speak TLS; left out: if server.tls.certFile is set.',
    format: 'booleanOrNull',
    default: null,
  }),
};

export type ListenerEntry = SettingsOf<typeof listenerSchema>;
