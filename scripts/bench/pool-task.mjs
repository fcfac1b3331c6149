// The task of the pool library's thread: the same work that our own thread does with the dummy model.

import { move } from 'piscina';
import { createDummyModel } from '../../dist/inference/backends/dummy.js';
import { packReplies, unpackRows } from '../../dist/inference/threads/packing.js';

const model = createDummyModel(4);

export default (rows) => {
  const { packed } = packReplies(model.run(unpackRows(rows)));
  return { ...packed, bytes: move(packed.bytes) };
};
