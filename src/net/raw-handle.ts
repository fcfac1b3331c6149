// All code that depends on Node's internals: the handle below a net.Socket, with which a connection continues in
// another process, and the channel between two processes, through which it gets there. Each of these parts is tried
// when the server starts:
//
//   a worker serves on handles          tried by each worker (`tryHandles`); without them it reports this and ends
//   handles pass beside Node's messages tried with the first worker; without that, Node passes them, more slowly
//   live connections migrate            tried with the first worker (primary/connections/migration-check.ts); else they are drained
//
// Sending the handle and not the socket makes this possible: a process that receives a net.Socket begins to read from
// it, and each process on the way would lose what it has read.

import type { ChildProcess } from 'node:child_process';
import { type Server, Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { TLSSocket } from 'node:tls';

/** A libuv stream, as node:net uses it. */
export interface RawHandle {
  reading: boolean;
  /** Bytes handed to libuv since the beginning. */
  readonly bytesWritten: number;
  /** Those of them that the kernel has not taken yet. */
  readonly writeQueueSize: number;
  /** Fills in `address`; returns 0, or a negative number when there is no peer any more. */
  getpeername(peer: { address?: string }): number;
  readStart(): number;
  readStop(): number;
  close(onClosed?: () => void): void;
}

/** Null when the socket is closed, or has no handle of its own (TLS). */
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

/** Whether the client has reset the connection, whether or not it has been read from. */
export function isReset(handle: RawHandle): boolean {
  return handle.getpeername({}) !== 0;
}

/** Stops reading from the kernel. What was read before is still in the socket. */
export function stopReading(socket: Socket): void {
  const handle = rawHandleOf(socket);
  if (handle === null) return;
  handle.readStop();
  handle.reading = true; // so that the stream, which wants more, believes that reading goes on
}

export function startReading(socket: Socket): void {
  const handle = rawHandleOf(socket);
  if (handle === null) return;
  handle.reading = true;
  handle.readStart();
}

/** Stops or starts the reading of a socket that native code reads from (node:http2), with TLS or without. */
export function setReading(socket: Socket, isReading: boolean): void {
  const { _handle: handle } = socket as unknown as { readonly _handle?: RawHandle | null };
  if (isReading) handle?.readStart();
  else handle?.readStop();
}

/**
 * Keeps a handle open while it is being sent, even if it is closed meanwhile; returns what ends this, and then closes
 * it. Otherwise libuv silently drops the message with a handle that was closed before the channel took it; and Node,
 * which waits for every handle to be confirmed before it sends anything else, would never send anything again.
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

/** How many of the bytes written to the socket, always the last ones, the kernel has not taken. */
export function unsentBytes(stream: Duplex): number {
  const handle = stream instanceof Socket ? rawHandleOf(stream) : null;
  if (handle === null) return stream.writableLength;
  return (stream as Socket).bytesWritten - handle.bytesWritten + handle.writeQueueSize;
}

/**
 * A socket on a handle that came from another process, or from another socket; it does not read before it is resumed.
 * What it reads comes as 'data', in memory that the next read of any socket uses again: a listener that keeps the bytes
 * must copy them before the event is over. This takes some twenty times less memory to allocate and to collect than a
 * separate buffer for each read (`onread` of new net.Socket).
 */
export function socketOn(handle: RawHandle): Socket {
  const onread = {
    buffer: readBuffer,
    callback: (bytes: number): boolean => {
      socket.emit('data', readBuffer.subarray(0, bytes));
      // There is more to read. Node would continue, up to 32 times; the rest waits for the next turn of the event loop,
      // unless it is the rest of one large request: a turn for each part would make that take longer for all.
      if (bytes < fullRead || ((socket as Expecting)[expected] >= fullRead && mayReadOn())) return true;
      setImmediate(readOn, socket);
      return false;
    },
  };
  const options = { handle, onread, allowHalfOpen: true, pauseOnCreate: true, readable: true, writable: true };
  const socket: Socket = new Socket(options as unknown as ConstructorParameters<typeof Socket>[0]);
  (socket as Expecting)[expected] = 0;
  return socket;
}

/** Says how many more bytes of a request are to come: `socketOn` reads on at once when they are many. */
export function expectBytes(stream: Duplex, bytes: number): void {
  (stream as unknown as Expecting)[expected] = bytes;
}

/**
 * What all sockets together may read on in a turn of the event loop: one request of the largest size that is let in by
 * default. If each read its own at once, clients that send much would make the others wait.
 */
const mostReadOn = 1 << 20;
let readOnBytes = 0;

/** Whether one more full read fits into this turn. */
function mayReadOn(): boolean {
  if (readOnBytes >= mostReadOn) return false;
  if (readOnBytes === 0) setImmediate(beginTurn);
  readOnBytes += fullRead;
  return true;
}

function beginTurn(): void {
  readOnBytes = 0;
}

const expected = Symbol('bytes of the request that is being received');
type Expecting = Socket & { [expected]: number };

/**
 * Makes the kernel ask whether the peer is still there after `delayMs` of silence, or never when it is 0, whatever
 * another process has set before: Node does not know that setting, and would not switch off what it does not know to be
 * on.
 */
export function setKeepAlive(socket: Socket, delayMs: number): void {
  socket.setKeepAlive(true, Math.max(1000, delayMs));
  if (delayMs === 0) socket.setKeepAlive(false);
}

function readOn(socket: Socket): void {
  if (!socket.destroyed && !socket.isPaused()) startReading(socket);
}

/** As `socketOn`, but each chunk is read into memory of its own, which TLS needs. */
export function plainSocketOn(handle: RawHandle): Socket {
  const options = { handle, allowHalfOpen: true, pauseOnCreate: true, readable: true, writable: true };
  return new Socket(options as unknown as ConstructorParameters<typeof Socket>[0]);
}

/** Takes the handle from a socket, which has none afterwards. Null when it had none. */
export function detachHandle(socket: Socket): RawHandle | null {
  const handle = rawHandleOf(socket);
  if (handle === null) return null;
  (socket as unknown as { _handle: RawHandle | null })._handle = null;
  socket.destroy(); // closes nothing: it has no handle any more
  return handle;
}

/** The listening handle below a net.Server. */
interface ListeningHandle {
  onconnection?: (status: number, handle?: RawHandle) => void;
  setNoDelay?(isOn: boolean): number;
  setKeepAlive?(isOn: boolean, seconds: number): number;
}

/**
 * Passes on each connection that a listening server accepts as a handle, without a net.Socket for it where possible.
 * The server has `pauseOnConnect`.
 * @param onFailure called when a connection could not be accepted: no descriptor is left for it
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

/**
 * On Linux, a connection inherits its listener's options from the beginning: no calls for each connection are needed.
 */
export const inheritsFromListener = process.platform === 'linux';

/**
 * Makes replies leave at once, and the kernel ask a silent client after `keepAliveMs` whether it is there; 0: never.
 */
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

/** What Node's streams report besides the bytes. */
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

/** Null where handles pass through the channel in another way, or Node's internals have changed. */
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
 * Sends `text` (latin1) and a handle between Node's messages to a child; null where this is impossible. Node itself
 * sends one handle after the other, each when the one before is confirmed, and wraps it in a message: twice the work.
 * The other end must take them out of the stream again (`interceptChannel`).
 * @returns a function that sends, and returns whether it could: the channel may be closed
 */
export function handleSender(child: ChildProcess): ((text: string, handle: RawHandle) => boolean) | null {
  const wrap = streamWrap();
  const channel = channelOf(child);
  if (wrap === null || typeof channel?.writeLatin1String !== 'function') return null;
  return (text, handle) => child.connected && channel.writeLatin1String(new wrap.WriteWrap(), text, handle) === 0;
}

/**
 * Reads the channel to the parent before Node does: `onRead` gets every chunk, the handle that came with it, and a
 * function that passes Node's part of it on to Node. Returns false, and changes nothing, where this is impossible.
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
 * Makes 'disconnect' come as soon as the channel has closed, whatever was on its way. Not for ends that disconnect
 * themselves. Node delays it while a handle that was sent has not been confirmed, to send first what waits behind it;
 * when the other side has died, Node waits forever. The primary would then keep giving connections to a dead worker,
 * and a worker would outlive its primary.
 */
export function hearOfEnd(end: ChildProcess | NodeJS.Process): void {
  const disconnect = end.disconnect as () => void;
  // Node calls this when it has read the channel to its end; it leaves `channel` unchanged when it means to wait.
  end.disconnect = () => {
    disconnect.call(end);
    if (end.channel) process.nextTick(() => (end as NodeJS.EventEmitter).emit('disconnect'));
  };
}

/** The most that one read can bring, as in Node itself. */
export const fullRead = 64 * 1024;
const readBuffer = Buffer.allocUnsafeSlow(fullRead);
