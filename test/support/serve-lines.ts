// Loaded with `node --import` into the processes of a server: its workers speak lines instead of frames.

import { protocols } from '#src/worker/protocols.js';
import { LineConnection } from './line-protocol.js';

protocols.raw =
  (endpoint, { connections: { recorder } }) =>
  ({ socket, onClose }) =>
    new LineConnection(socket, endpoint, () => {
      recorder.count('closedByClient');
      onClose(false);
    });
