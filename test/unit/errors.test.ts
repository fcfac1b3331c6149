import { expect } from 'chai';
import { type ClientError, clientErrors } from '#src/errors.js';
import { countersWith } from '#src/metrics/counters.js';

/** github.com/googleapis/googleapis, google/rpc/code.proto: "HTTP Mapping". */
const httpOf: Readonly<Record<string, number>> = {
  DEADLINE_EXCEEDED: 504,
  INTERNAL: 500,
  INVALID_ARGUMENT: 400,
  NOT_FOUND: 404,
  RESOURCE_EXHAUSTED: 429,
  UNAUTHENTICATED: 401,
  UNAVAILABLE: 503,
};

describe('the errors that a client can see', () => {
  const errors: readonly (readonly [name: string, error: ClientError])[] = Object.entries(clientErrors);
  const answered = errors.flatMap(([name, error]) => (error.answer === 'close' ? [] : [{ name, ...error }]));

  it('are all in the table: each way that a request can end in an error is one', () => {
    const counted = errors.map(([, { counter }]) => counter);
    expect(counted).to.include.members([...countersWith({ scope: 'model', outcome: 'error' })]);
    expect(new Set(counted).size).to.equal(counted.length);
  });

  it('have the status of HTTP that belongs to that of gRPC', () => {
    for (const { name, http, grpc } of answered)
      expect(http, name).to.equal(name === 'PAYLOAD_TOO_LARGE' ? 413 : httpOf[grpc]);
  });

  it('blame the client by their status exactly where it should not try again', () => {
    for (const { name, http, retry } of answered) expect(http < 500, name).to.equal(retry.startsWith('no:'));
  });
});
