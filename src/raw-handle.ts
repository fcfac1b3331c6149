// What leans on the inside of Node, all in one file: the handle below a net.Socket, with which a live connection can
// go on in another process. Every use is checked when the server starts (primary/handoff-check.ts); where Node has
// changed underneath, connections are drained instead of moved.
//
// To send the handle and not the socket is what makes it possible: whoever receives a net.Socket begins to read from
// it, and each process on the way would lose what it has read.

import { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { TLSSocket } from 'node:tls';

/** As node:net uses it: a stream of libuv. */
export interface RawHandle {
  reading: boolean;
  /** Bytes handed to libuv since the beginning. */
  readonly bytesWritten: number;
  /** Those of them that the kernel has not taken yet. */
  readonly writeQueueSize: number;
  /** Fills in `address`; returns 0, or less when there is no peer any more. */
  getpeername(peer: { address?: string }): number;
  readStart(): number;
  readStop(): number;
  close(onClosed?: () => void): void;
}

/** Null when the socket is closed, or is none that lies on a handle of its own (TLS). */
export function rawHandleOf(socket: Socket): RawHandle | null {
  if (socket instanceof TLSSocket) return null;
  const handle = (socket as unknown as { _handle?: RawHandle | null })._handle;
  return typeof handle?.readStop === 'function' ? handle : null;
}

/** The file descriptor of a socket, with TLS or without; null when it is closed, or where there are none (Windows). */
export function descriptorOf(socket: Socket): number | null {
  const { fd } = (socket as unknown as { _handle?: { readonly fd?: number } | null })._handle ?? {};
  return fd === undefined || fd < 0 ? null : fd;
}

/** Whether the client has reset the connection, read from or not. Unknown with TLS: then false. */
export function isReset(socket: Socket): boolean {
  const handle = rawHandleOf(socket);
  return handle !== null && handle.getpeername({}) !== 0;
}

/** Nothing more is read from the kernel. What was read before is still in the socket. */
export function stopReading(socket: Socket): void {
  const handle = rawHandleOf(socket);
  if (handle === null) return;
  handle.readStop();
  handle.reading = true; // so that the stream, which would like more, believes that it is coming
}

export function startReading(socket: Socket): void {
  const handle = rawHandleOf(socket);
  if (handle === null) return;
  handle.reading = true;
  handle.readStart();
}

/**
 * Keeps a handle open while it is being sent, whoever closes it meanwhile; returns what ends that. Otherwise libuv drops
 * the message with a handle that has closed before the channel took it, and says so to nobody; and Node, which waits for
 * every handle to be confirmed before it sends anything else, would never send anything again.
 */
export function holdOpen(handle: RawHandle): () => void {
  let closing: Parameters<RawHandle['close']> | null = null;
  Object.defineProperty(handle, 'close', {
    configurable: true,
    value: (...args: Parameters<RawHandle['close']>) => {
      closing = args;
    },
  });
  return () => {
    Reflect.deleteProperty(handle, 'close');
    if (closing !== null) handle.close(...closing);
  };
}

/** How many of the bytes that were written to the socket, the last ones, the kernel has not taken. */
export function unsentBytes(stream: Duplex): number {
  const handle = stream instanceof Socket ? rawHandleOf(stream) : null;
  if (handle === null) return stream.writableLength;
  return (stream as Socket).bytesWritten - handle.bytesWritten + handle.writeQueueSize;
}

/**
 * A socket on a handle that came from another process, or from another socket; it does not read before it is resumed.
 * What it reads comes as 'data', in memory that the next read of any socket uses again: whoever wants to keep it must
 * copy it before the event is over. That is some twenty times less memory to allocate and to collect than a buffer of
 * its own for each read (`onread` of new net.Socket).
 */
export function socketOn(handle: RawHandle): Socket {
  const onread = {
    buffer: readBuffer,
    callback: (bytes: number): boolean => {
      socket.emit('data', readBuffer.subarray(0, bytes));
      // Node would go on reading up to 32 times; there is more, and it waits for the next turn of the event loop.
      if (bytes < readBuffer.length) return true;
      setImmediate(readOn, socket);
      return false;
    },
  };
  const options = { handle, onread, allowHalfOpen: true, pauseOnCreate: true, readable: true, writable: true };
  const socket: Socket = new Socket(options as unknown as ConstructorParameters<typeof Socket>[0]);
  return socket;
}

/**
 * Has the kernel ask whether the peer is still there after `delayMs` of silence, or never when it is 0, whatever another
 * process has set before: Node, which knows nothing of that, would not switch off what it does not know to be on.
 */
export function setKeepAlive(socket: Socket, delayMs: number): void {
  socket.setKeepAlive(true, Math.max(1000, delayMs));
  if (delayMs === 0) socket.setKeepAlive(false);
}

function readOn(socket: Socket): void {
  if (!socket.destroyed && !socket.isPaused()) startReading(socket);
}

/** The connection of a socket that a server has just accepted, as `socketOn` has it; the socket itself where it cannot. */
export function withSharedReads(accepted: Socket): Socket {
  const handle = rawHandleOf(accepted);
  if (handle === null) return accepted;
  (accepted as unknown as { _handle: RawHandle | null })._handle = null;
  accepted.destroy(); // closes nothing: it has no handle any more
  return socketOn(handle);
}

/** What one read can bring at the most, as in Node itself. */
const readBuffer = Buffer.allocUnsafeSlow(64 * 1024);
