// What leans on the inside of Node, all in one file: the handle below a net.Socket, with which a connection goes on in
// another process, and the channel between two processes, by which it gets there. Each of these parts is tried when the
// server starts:
//
//   a worker serves on handles          tried by each worker (`tryHandles`); without them it says so and ends
//   handles pass beside Node's messages tried with the first worker; without that, Node passes them, more slowly
//   live connections move               tried with the first worker (primary/migration-check.ts); else they are drained
//
// To send the handle and not the socket is what makes it possible: whoever receives a net.Socket begins to read from
// it, and each process on the way would lose what it has read.

import type { ChildProcess } from 'node:child_process';
import { type Server, Socket } from 'node:net';
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

/** Whether the client has reset the connection, read from or not. */
export function isReset(handle: RawHandle): boolean {
  return handle.getpeername({}) !== 0;
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
 * Keeps a handle open while it is being sent, whoever closes it meanwhile; returns what ends that. Otherwise libuv
 * drops the message with a handle that has closed before the channel took it, and says so to nobody; and Node, which
 * waits for every handle to be confirmed before it sends anything else, would never send anything again.
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
 * Has the kernel ask whether the peer is still there after `delayMs` of silence, or never when it is 0, whatever
 * another process has set before: Node, which knows nothing of that, would not switch off what it does not know to be
 * on.
 */
export function setKeepAlive(socket: Socket, delayMs: number): void {
  socket.setKeepAlive(true, Math.max(1000, delayMs));
  if (delayMs === 0) socket.setKeepAlive(false);
}

function readOn(socket: Socket): void {
  if (!socket.destroyed && !socket.isPaused()) startReading(socket);
}

/** As `socketOn`, for those who read each chunk in memory of its own: TLS. */
export function plainSocketOn(handle: RawHandle): Socket {
  const options = { handle, allowHalfOpen: true, pauseOnCreate: true, readable: true, writable: true };
  return new Socket(options as unknown as ConstructorParameters<typeof Socket>[0]);
}

/** The handle of a socket, which has none any more. Null when it had none. */
export function detachHandle(socket: Socket): RawHandle | null {
  const handle = rawHandleOf(socket);
  if (handle === null) return null;
  (socket as unknown as { _handle: RawHandle | null })._handle = null;
  socket.destroy(); // closes nothing: it has no handle any more
  return handle;
}

/** What listens, below a net.Server. */
interface ListeningHandle {
  onconnection?: (status: number, handle?: RawHandle) => void;
  setNoDelay?(isOn: boolean): number;
  setKeepAlive?(isOn: boolean, seconds: number): number;
}

/**
 * Hands over what a listening server accepts as handles, without a net.Socket for each where that can be had. The
 * server has `pauseOnConnect`.
 * @param onFailure a connection could not be accepted: no descriptor is left for it
 */
export function acceptHandles(server: Server, onHandle: (handle: RawHandle) => void, onFailure: () => void): void {
  server.on('connection', (socket) => {
    const handle = detachHandle(socket);
    if (handle !== null) onHandle(handle);
    else socket.destroy();
  });
  const { _handle: listening } = server as unknown as { readonly _handle?: ListeningHandle | null };
  if (typeof listening?.onconnection !== 'function') return;
  listening.onconnection = (status, handle) => (status === 0 && handle ? onHandle(handle) : onFailure());
}

/** On Linux, a connection has from its beginning what its listener has: no call for each is needed. */
export const inheritsFromListener = process.platform === 'linux';

/** Replies leave at once, and the kernel asks for a silent client after `keepAliveMs`; 0: never. */
export function setListenerOptions(server: Server, keepAliveMs: number): void {
  const { _handle: listening } = server as unknown as { readonly _handle?: ListeningHandle | null };
  listening?.setNoDelay?.(true);
  listening?.setKeepAlive?.(keepAliveMs > 0, Math.ceil(keepAliveMs / 1000));
}

/** The stream below the channel between a process and its parent. */
interface RawChannel {
  pendingHandle: RawHandle | null;
  onread: (this: RawChannel, bytes?: ArrayBuffer) => void;
  writeLatin1String(request: object, text: string, handle: RawHandle): number;
}

/** What Node's streams tell beside the bytes. */
interface StreamWrap {
  readonly WriteWrap: new () => object;
  readonly streamBaseState: Int32Array;
  readonly kReadBytesOrError: number;
  readonly kArrayBufferOffset: number;
}

function channelOf(end: ChildProcess | NodeJS.Process): RawChannel | null {
  const key = Object.getOwnPropertySymbols(end).find(({ description }) => description === 'kChannelHandle');
  return key === undefined ? null : ((end as unknown as Record<symbol, RawChannel | null>)[key] ?? null);
}

/** Null where handles pass through the channel in another way, or Node has changed. */
function streamWrap(): StreamWrap | null {
  if (process.platform !== 'linux') return null;
  try {
    const wrap = (process as unknown as { binding(name: string): StreamWrap }).binding('stream_wrap');
    const { WriteWrap, streamBaseState, kReadBytesOrError, kArrayBufferOffset } = wrap;
    const isKnown = streamBaseState instanceof Int32Array && kReadBytesOrError >= 0 && kArrayBufferOffset >= 0;
    return isKnown && typeof WriteWrap === 'function' ? wrap : null;
  } catch {
    return null;
  }
}

/**
 * Puts `text` (latin1) and a handle between Node's messages to a child; null where it cannot be done. Node itself sends
 * one handle after the other, each when the one before is confirmed, and wraps it in a message: twice the work. Whoever
 * listens at the other end must take it out again (`receiveHandles`).
 * @returns what sends, and returns whether it could: the channel may be closed
 */
export function handleSender(child: ChildProcess): ((text: string, handle: RawHandle) => boolean) | null {
  const wrap = streamWrap();
  const channel = channelOf(child);
  if (wrap === null || typeof channel?.writeLatin1String !== 'function') return null;
  return (text, handle) => child.connected && channel.writeLatin1String(new wrap.WriteWrap(), text, handle) === 0;
}

/**
 * Reads the channel to the parent first: `onRead` has every chunk, the handle that came with it, and what passes on to
 * Node the part that is Node's. Returns false, and changes nothing, where it cannot be done.
 */
export function interceptChannel(
  onRead: (bytes: Buffer, handle: RawHandle | null, pass: (bytes: Buffer, handle: RawHandle | null) => void) => void,
): boolean {
  const wrap = streamWrap();
  const channel = channelOf(process);
  if (wrap === null || typeof channel?.onread !== 'function' || !('pendingHandle' in channel)) return false;
  const { streamBaseState, kReadBytesOrError, kArrayBufferOffset } = wrap;
  const { onread } = channel;
  const pass = (bytes: Buffer, handle: RawHandle | null): void => {
    streamBaseState[kReadBytesOrError] = bytes.length;
    streamBaseState[kArrayBufferOffset] = bytes.byteOffset;
    channel.pendingHandle = handle;
    onread.call(channel, bytes.buffer as ArrayBuffer);
  };
  channel.onread = (bytes) => {
    if (bytes === undefined) {
      onread.call(channel);
      return;
    }
    const handle = channel.pendingHandle;
    channel.pendingHandle = null;
    const length = streamBaseState[kReadBytesOrError] as number;
    onRead(Buffer.from(bytes, streamBaseState[kArrayBufferOffset], length), handle, pass);
  };
  return true;
}

/**
 * 'disconnect' comes as soon as the channel has closed, whatever was on its way. Not for ends that disconnect
 * themselves. Node keeps it back while a handle that was sent has not been confirmed, to send first what waits behind
 * it; when the other side has died it waits for ever. Then the primary would go on giving connections to a dead worker,
 * and a worker outlive its primary.
 */
export function hearOfEnd(end: ChildProcess | NodeJS.Process): void {
  const disconnect = end.disconnect as () => void;
  // Node calls it when it has read the channel to its end; it leaves `channel` as it is when it means to wait.
  end.disconnect = () => {
    disconnect.call(end);
    if (end.channel) process.nextTick(() => (end as NodeJS.EventEmitter).emit('disconnect'));
  };
}

/** What one read can bring at the most, as in Node itself. */
const readBuffer = Buffer.allocUnsafeSlow(64 * 1024);
