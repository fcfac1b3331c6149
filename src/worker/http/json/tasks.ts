// What passes between the event loop and the thread that reads and writes large JSON.

import type { InferAnswer, InferCall } from '../../../protocol/oip/infer.js';
import type { Asked } from '../../../protocol/oip/json/request.js';
import type { JsonAnswer } from '../../../protocol/oip/json/response.js';

/** Which outputs of an answer are wanted, and in what form. */
export type Wanted = Pick<InferCall, 'outputs' | 'isBinary'>;

export type JsonTask =
  | { readonly kind: 'decode'; readonly body: Uint8Array; readonly jsonBytes: number; readonly asked: Asked }
  | { readonly kind: 'encode'; readonly answer: InferAnswer; readonly wanted: Wanted };

export type JsonResult =
  | { readonly kind: 'decoded'; readonly call: InferCall }
  | { readonly kind: 'encoded'; readonly answer: JsonAnswer }
  /** It is no request, or no JSON can say it. */
  | { readonly kind: 'invalid'; readonly message: string }
  | { readonly kind: 'failed'; readonly message: string };

/** The first message of the thread: the code that it runs. */
export interface ThreadReady {
  readonly kind: 'ready';
  readonly code: string;
}

/**
 * The memory of these bytes that can be handed over instead of copied. Node keeps small buffers in memory that they share,
 * which has to stay where it is; each of them takes less than half of it.
 */
export function movable(views: readonly Uint8Array[]): ArrayBuffer[] {
  const large = views.filter(({ byteLength, buffer }) => byteLength >= buffer.byteLength / 2);
  return [...new Set(large.map(({ buffer }) => buffer))].filter((buffer) => buffer instanceof ArrayBuffer);
}
