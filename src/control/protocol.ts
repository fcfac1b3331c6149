// What an operator and a running server say to each other over the control socket: a JSON object a line, one request
// and one reply for each connection. There is no network in it: the socket is a file, and who may open it is the file
// system's to say.

import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ListenAddress } from '../ipc/messages.js';
import { isSocketPath } from '../socket-path.js';

export type Operation =
  | { readonly command: 'status' }
  /** Replaces all workers, with the config and the models as they are now; `models`: new models alone, in place. */
  | { readonly command: 'reload'; readonly only?: 'models' }
  | { readonly command: 'scale'; readonly workers: number }
  | { readonly command: 'drain' };

/** The reply comes when it is done. */
export type OperationReply =
  | { readonly ok: true; readonly message: string; readonly status: ServerStatus }
  | { readonly ok: false; readonly reason: string };

export interface ServerStatus {
  /** Of the code that runs. */
  readonly version: string;
  /** What to say when other code lies on disk by now; null while it does not. */
  readonly codeChange: string | null;
  readonly pid: number;
  readonly cluster: string;
  readonly node: string;
  readonly state: 'starting' | 'serving' | 'reloading' | 'draining';
  readonly uptimeSeconds: number;
  readonly listeners: readonly ListenAddress[];
  /** By name, each model's signature, where it runs, and whether a request has a run of its own, and why. */
  readonly models: Readonly<Record<string, string>>;
  /** null while there is none, or when it is a process of its own. */
  readonly metricsUrl: string | null;
  readonly workersWanted: number;
  /** What the cgroup allows the server, in cores' worth of processor time; null: all there is. */
  readonly cpuLimitCores: number | null;
  /** Workers that died and were replaced. */
  readonly restarts: number;
  /** Whether live connections move at reloads; otherwise they are drained. */
  readonly movesConnections: boolean;
  readonly workers: readonly WorkerStatus[];
}

export interface WorkerStatus {
  readonly slot: number;
  readonly pid: number;
  readonly state: 'starting' | 'ready' | 'leaving';
  /** Which reload it was started by; 1: none. */
  readonly revision: number;
  readonly uptimeSeconds: number;
  readonly connections: number;
  readonly inFlight: number;
  readonly requests: number;
  readonly rssBytes: number;
  readonly eventLoopUtilization: number;
}

/** Longest line of a request; of a reply, a status of a thousand workers. */
export const maxRequestBytes = 4096;
export const maxReplyBytes = 4 << 20;

/**
 * Where servers of this user have their control sockets, each named by its process id: in the temporary folder, or in
 * /tmp when the path of a socket would be too long there. Clients find it by the same rule. A user may have a number
 * and no name (containers), so the number alone is asked for.
 */
export function controlFolder(): string {
  const name = `ml-tcp-server-${process.getuid?.() ?? 'user'}`;
  const folder = join(tmpdir(), name);
  return isSocketPath(join(folder, longestSocketName)) ? folder : join('/tmp', name);
}

/** Process ids have up to seven digits (Linux: pid_max of 4194304). */
const longestSocketName = '4194304.sock';
