// The socket for an operator's commands.

import { type SettingsOf, setting } from '../setting.js';

export const control = {
  socket: setting({
    doc: 'Unix socket that `ml-tcp-server status`, `reload`, `scale` and `drain` speak to, open to this user alone. Empty: one in the temporary folder (in /tmp where that path is too long), which they find by themselves; none: no socket. At most 107 bytes, 103 except on Linux.',
    format: 'textOrEmpty',
    default: '',
    env: 'CONTROL_SOCKET',
  }),
};

export type ControlSettings = SettingsOf<typeof control>;
