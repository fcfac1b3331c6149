import { Connection } from '../framed/connection.js';
import type { CallListener, OipService } from '../oip/service.js';
import type { OpenConnection, ProtocolContext } from '../protocols.js';
import { calls } from './dialect.js';

/** Connections whose frames are calls. */
export function openCalls(service: OipService, listener: CallListener, context: ProtocolContext): OpenConnection {
  return ({ socket, address, onClose, moved }) => {
    const rejections = context.rejections?.of(address, 'calls') ?? null;
    const dialect = calls(service, listener, address, context);
    return new Connection(socket, dialect, context.connections, onClose, moved, rejections);
  };
}
