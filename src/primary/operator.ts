// Does what an operator asks for over the control socket.

import { maxWorkers } from '../config/formats.js';
import type { Operation, ServerStatus } from '../operations.js';
import type { Operate } from './control-server.js';

/** What there is to do it with. */
export interface OperatorTools {
  status(): ServerStatus;
  /** Rejects with why it could not be done. */
  reload(): Promise<void>;
  /** Resolves to what came of it; rejects when a model could not be loaded. */
  reloadModels(): Promise<string>;
  scale(workers: number): Promise<void>;
  drain(): Promise<void>;
  /** Ends the process. */
  end(): void;
}

export function operateWith(tools: OperatorTools): Operate {
  return async (operation) => {
    const message = await carryOut(tools, operation);
    return { ok: true, message, status: tools.status() };
  };
}

/** Resolves to what to tell; rejects with why it could not be done. */
async function carryOut(tools: OperatorTools, operation: Operation): Promise<string> {
  if (operation.command === 'status') return '';
  const { state } = tools.status();
  if (state === 'draining') throw new Error('the server is stopping');
  if (state === 'starting') throw new Error('the server is still starting');
  switch (operation.command) {
    case 'reload':
      if (operation.only === 'models') return tools.reloadModels();
      await tools.reload();
      return 'reloaded';
    case 'scale':
      if (operation.workers < 1 || operation.workers > maxWorkers)
        throw new Error(`there can be 1 to ${maxWorkers} workers`);
      await tools.scale(operation.workers);
      return `${operation.workers} ${operation.workers === 1 ? 'worker' : 'workers'}`;
    case 'drain':
      await tools.drain();
      setImmediate(() => tools.end()); // when the reply has left
      return 'stopped';
  }
}
