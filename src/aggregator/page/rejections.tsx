// Why requests and connections were refused, or failed, lately: what their clients may not have been told, or not read.

import { clock } from '../../format.js';
import type { ClusterRejection } from '../rejections.js';
import { asking } from './asked.js';
import { type Column, Table } from './table.js';

const useRejections = asking<{ readonly rejections: readonly ClusterRejection[] }>('api/rejections');

const shownMost = 50;

const text = (title: string, show: (rejection: ClusterRejection) => string): Column<ClusterRejection> => ({
  title,
  isNumber: false,
  value: show,
  show: (rejection) => show(rejection) || '–',
});

const columns: readonly Column<ClusterRejection>[] = [
  { title: 'time', isNumber: false, value: ({ t }) => t, show: ({ t }) => clock(t) },
  text('client', ({ client }) => client),
  text('protocol', ({ protocol }) => protocol),
  text('model', ({ model }) => model),
  text('reason', ({ reason }) => reason),
  { ...text('detail', ({ detail }) => detail), isLong: true },
  text('by', ({ node, worker }) => `worker ${worker} of ${node}`),
];

const keyOf = ({ node, pid, client, protocol, model, reason }: ClusterRejection): string =>
  JSON.stringify([node, pid, client, protocol, model, reason]);

export function Rejections() {
  const answer = useRejections();
  const rejections = answer === null || answer === 'failed' ? [] : answer.rejections;
  return (
    <Table
      caption="Why was it refused?"
      columns={columns}
      rows={rejections.slice(0, shownMost)}
      keyOf={keyOf}
      nameOf={({ client }) => client}
      empty={answer === 'failed' ? 'the aggregator does not say' : 'nothing was refused since this aggregator began'}
    />
  );
}
