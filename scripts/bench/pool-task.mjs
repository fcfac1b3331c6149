// What a thread of the pool library runs: the same work as our own thread with the dummy model.

import { move } from 'piscina';
import { createDummyModel } from '../../dist/inference/backends/dummy.js';
import { packReplies, unpackRows } from '../../dist/inference/threads/packing.js';

const model = createDummyModel(4);

export default (rows) => {
  const { packed } = packReplies(model.run(unpackRows(rows)));
  return { ...packed, bytes: move(packed.bytes) };
};
