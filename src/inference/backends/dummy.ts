// Answers every payload with the same bytes: to try a client or the network without a model, and to measure the
// overhead of the server itself.

import type { Model } from '../model.js';

/** @param responseBytes length of every reply, which is filled with `X` */
export function createDummyModel(responseBytes: number): Model {
  const bytes = Buffer.alloc(responseBytes, 'X');
  const replies = { kind: 'uniform', bytes, rowBytes: responseBytes, stride: 0 } as const;
  return {
    inputBytes: null,
    outputBytes: responseBytes,
    fixedRows: null,
    runsAloneBecause: null,
    plan: null,
    concurrency: 1,
    mayReplyWithInput: false,
    sample: null,
    description: `dummy: any payload → ${responseBytes} bytes of X`,
    run: () => replies,
    close: async () => {},
  };
}
