// `ml-tcp-server status | reload | scale | drain`: sends a command to a running server and shows the outcome.

import { findServer, operate, type ServerChoice } from '../../control/client.js';
import type { Operation, ServerStatus, WorkerStatus } from '../../control/protocol.js';
import { OperatorError } from '../../errors.js';
import { bytes, percent, span, table } from '../../format.js';
import { listenerText } from '../../listener-text.js';
import { planTable } from '../../plan-text.js';

export interface OperateFlags extends ServerChoice {
  readonly json?: boolean;
}

/** Throws OperatorError SERVER_NOT_FOUND or COMMAND_REFUSED. */
export async function runOperation(operation: Operation, flags: OperateFlags): Promise<void> {
  const reply = await operate(await findServer(flags), operation);
  if (!reply.ok) throw new OperatorError('COMMAND_REFUSED', reply.reason);
  if (flags.json) console.log(JSON.stringify(reply.status, null, 2));
  else console.log(operation.command === 'status' ? formatStatus(reply.status) : reply.message);
}

/** The status for people: a headline, where to connect, and a line for each worker. */
export function formatStatus(status: ServerStatus): string {
  const { workers, workersWanted, restarts } = status;
  const ready = workers.filter(({ state }) => state === 'ready').length;
  const lines = [
    `ml-tcp-server ${status.version}, ${status.state} for ${span(status.uptimeSeconds)}: ${ready} of ${workersWanted} workers ready, ${restarts} replaced`,
    ...(status.codeChange === null
      ? []
      : [`${status.codeChange}; until then no worker is started, in place of one that dies neither`]),
    `node ${status.node} of cluster ${status.cluster}, pid ${status.pid}`,
    ...status.listeners.map(listenerText),
    ...Object.entries(status.models).flatMap(([name, description]) => [
      `${name}: ${description}`,
      // A server of an earlier version tells no plans.
      ...planLines(status.plans?.[name]),
    ]),
    ...(status.metricsUrl === null ? [] : [`${status.metricsUrl}/metrics`]),
    ...(status.cpuLimitCores === null
      ? []
      : [`processor time of ${Number(status.cpuLimitCores.toFixed(2))} cores, by its cgroup`]),
    ...(status.movesConnections ? [] : ['connections do not move: at reloads and at scaling down they are drained']),
    '',
  ];
  const rows = workers.map((worker) => columns.map(([, cell]) => cell(worker)));
  const titles = columns.map(([title]) => title);
  return [...lines, ...table(titles, rows)].join('\n');
}

/** An indented line for each input and output. */
function planLines(report: ServerStatus['plans'][string] | undefined): readonly string[] {
  const plan = report?.plan ?? null;
  return plan === null ? [] : planTable(plan, width - 2).map((line) => `  ${line}`);
}

const width = 100;

const columns: readonly (readonly [string, (worker: WorkerStatus) => string])[] = [
  ['worker', ({ slot }) => String(slot)],
  ['pid', ({ pid }) => String(pid)],
  ['state', ({ state }) => state],
  ['revision', ({ revision }) => String(revision)],
  ['up', ({ uptimeSeconds }) => span(uptimeSeconds)],
  ['connections', ({ connections }) => String(connections)],
  ['in flight', ({ inFlight }) => String(inFlight)],
  ['requests', ({ requests }) => String(requests)],
  ['memory', ({ rssBytes }) => bytes(rssBytes)],
  ['busy', ({ eventLoopUtilization }) => percent(eventLoopUtilization)],
];
