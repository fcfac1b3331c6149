// Checks that a model's requests and replies fit what clients may send and get: otherwise the model would start and
// then refuse every request.

import type { WorkerConfig } from '../config/slices.js';
import type { Model } from '../inference/model.js';
import { maxFrameLength } from '../protocol/frames.js';

type Limits = Pick<WorkerConfig['server'], 'lengthFieldSize' | 'maxPayloadSizeKb' | 'maxBufferedMb'>;

/**
 * Returns the check of models that are served within these limits: it throws Error, naming the setting that would admit
 * the model.
 */
export function admission(limits: Limits): (model: Pick<Model, 'inputBytes' | 'outputBytes' | 'sample'>) => void {
  const { lengthFieldSize, maxPayloadSizeKb, maxBufferedMb } = limits;
  const longest = maxFrameLength(lengthFieldSize);
  const fits = (what: string, bytes: number): void => {
    if (bytes > longest)
      throw new Error(
        `${what} has ${count(bytes)} bytes, more than a length field of ${lengthFieldSize} bytes can tell (${count(longest)}): set server.lengthFieldSize to 4, for its clients as well`,
      );
    if (bytes > maxBufferedMb * 2 ** 20)
      throw new Error(
        `${what} has ${count(bytes)} bytes, more than all connections of a worker may hold (server.maxBufferedMb, ${maxBufferedMb}): set it to ${Math.ceil(bytes / 2 ** 20) * 2} or more`,
      );
  };
  return ({ inputBytes, outputBytes, sample }) => {
    const request = inputBytes ?? sample?.length ?? 0;
    const what = inputBytes === null ? 'its sample' : 'one request';
    fits(what, request);
    if (request > maxPayloadSizeKb * 1024)
      throw new Error(
        `${what} has ${count(request)} bytes, more than server.maxPayloadSizeKb (${maxPayloadSizeKb}) lets in: set it to ${Math.ceil(request / 1024)} or more`,
      );
    fits('one reply', outputBytes ?? 0);
  };
}

const count = (bytes: number): string => bytes.toLocaleString('en');
