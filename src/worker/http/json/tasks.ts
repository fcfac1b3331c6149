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

/** Small buffers share memory with others, which must stay. */
const ownMemoryBytes = 64 * 1024;

/** The memory of these bytes that can be handed over instead of copied. */
export function movable(views: readonly Uint8Array[]): ArrayBuffer[] {
  const memory = new Set(views.map(({ buffer }) => buffer).filter(({ byteLength }) => byteLength >= ownMemoryBytes));
  return [...memory] as ArrayBuffer[];
}
