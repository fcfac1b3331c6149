// Says why requests in raw frames were refused or failed, which their empty replies cannot say.

import { messageOf, reasonOf } from '../../errors.js';
import type { ModelEndpoint } from '../../serving/model-endpoint.js';
import type { RequestGroup } from '../../serving/request-group.js';
import type { ClientRejections, RejectionReason } from '../rejection-log.js';

/**
 * These requests have no reply; it costs little where many come so.
 * @param announcedBytes what the frame that was too large announced
 */
export function noteUnanswered(
  rejections: ClientRejections,
  endpoint: ModelEndpoint,
  group: RequestGroup,
  now: number,
  announcedBytes: number,
): void {
  const { target, requests, failed } = group;
  const reason = typeof target === 'string' ? reasonOf[target] : 'INFERENCE_FAILED';
  if (!rejections.isOpen(reason, now, typeof target === 'string' ? requests : failed)) return;
  rejections.note(reason, detailOf(reason, endpoint, group, now, announcedBytes));
}

function detailOf(
  reason: RejectionReason,
  { batcher, limits }: ModelEndpoint,
  group: RequestGroup,
  now: number,
  announcedBytes: number,
): string {
  const inMs = Math.ceil(group.retryAfterMs);
  switch (reason) {
    case 'BAD_INPUT':
      return `expected ${batcher.expectedInput}; got ${group.refusedBytes} bytes`;
    case 'QUEUE_FULL':
      return `as many wait as may (maxQueue); there may be a place in ${inMs} ms`;
    case 'OVERLOADED':
      return `it would have been answered ${inMs} ms after its deadline (deadlineMs)`;
    case 'DEADLINE_EXCEEDED':
      return `it waited for ${Math.round(now - group.arrivedAt)} ms without a run (deadlineMs)`;
    case 'PAYLOAD_TOO_LARGE':
      return `a frame announces ${announcedBytes} bytes; ${limits.maxPayloadBytes} are allowed (server.maxPayloadSizeKb)`;
    default:
      return failureOf(group);
  }
}

function failureOf({ outcome, first, requests }: RequestGroup): string {
  if (outcome?.kind === 'failed') return messageOf(outcome.error, 300);
  if (outcome?.kind !== 'rows') return `a reply of ${outcome?.rowBytes} bytes does not fit the length field`;
  for (let row = first; row < first + requests; row++) {
    const reply = outcome.rows[row];
    if (reply instanceof Error) return messageOf(reply, 300);
  }
  return 'a reply does not fit the length field';
}
