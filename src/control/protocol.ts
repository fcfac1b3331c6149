// The protocol between an operator and a running server on the control socket: one JSON object per line, one request
// and one reply for each connection. It uses no network: the socket is a file, and the file system decides who may open
// it.

import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ListenAddress, ModelReports } from '../ipc/messages.js';
import { isSocketPath } from '../net/socket-path.js';

export type Operation =
  | { readonly command: 'status' }
  /**
   * Replaces all workers, with the current config and models; `models`: only loads new models, in the running workers.
   */
  | { readonly command: 'reload'; readonly only?: 'models' }
  | { readonly command: 'scale'; readonly workers: number }
  | { readonly command: 'drain' };

/** The reply comes when the operation is done. */
export type OperationReply =
  | { readonly ok: true; readonly message: string; readonly status: ServerStatus }
  | { readonly ok: false; readonly reason: string };

export interface ServerStatus {
  /** Version of the running code. */
  readonly version: string;
  /** A message when the code on disk is no longer the running code; null while it is. */
  readonly codeChange: string | null;
  readonly pid: number;
  readonly cluster: string;
  readonly node: string;
  readonly state: 'starting' | 'serving' | 'reloading' | 'draining';
  readonly uptimeSeconds: number;
  readonly listeners: readonly ListenAddress[];
  /** By name: each model's signature, where it runs, and whether it runs each request alone, and why. */
  readonly models: Readonly<Record<string, string>>;
  /** By name: each model's inputs and outputs, their batch axes, and why it runs each request alone if it does. */
  readonly plans: ModelReports;
  /** Null while there is no metrics server, or when a separate aggregator serves the metrics. */
  readonly metricsUrl: string | null;
  readonly workersWanted: number;
  /** Processor time that the cgroup allows the server, in cores; null: no limit. */
  readonly cpuLimitCores: number | null;
  /** Workers that died and were replaced. */
  readonly restarts: number;
  /** Whether live connections migrate at reloads; otherwise they are drained. */
  readonly movesConnections: boolean;
  readonly workers: readonly WorkerStatus[];
}

export interface WorkerStatus {
  readonly slot: number;
  readonly pid: number;
  readonly state: 'starting' | 'ready' | 'leaving';
  /** Which reload started it; 1: none. */
  readonly revision: number;
  readonly uptimeSeconds: number;
  readonly connections: number;
  readonly inFlight: number;
  readonly requests: number;
  readonly rssBytes: number;
  readonly eventLoopUtilization: number;
}

/** The longest line of a request, and of a reply: a status of a thousand workers. */
export const maxRequestBytes = 4096;
export const maxReplyBytes = 4 << 20;

/**
 * Where servers of this user have their control sockets, each named after its process id: in the temporary folder, or
 * in /tmp when the path of a socket would be too long there. Clients find the folder by the same rule. A user may have
 * a number but no name (containers), so only the number is used.
 */
export function controlFolder(): string {
  const name = `ml-tcp-server-${process.getuid?.() ?? 'user'}`;
  const folder = join(tmpdir(), name);
  return isSocketPath(join(folder, longestSocketName)) ? folder : join('/tmp', name);
}

/** Process ids have up to seven digits (Linux: pid_max of 4194304). */
const longestSocketName = '4194304.sock';
