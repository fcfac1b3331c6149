import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { expect } from 'chai';
import { OperatorError } from '#src/errors.js';
import * as rawHandle from '#src/net/raw-handle.js';
import { tryHandles } from '#src/worker/connections/handle-check.js';
import { root } from '../../../support/processes.js';

describe("the check of Node's inside", () => {
  it('finds nothing that this version lacks', () => tryHandles());

  it('tries nothing with another worker, though node:cluster would share the port', async () => {
    const tries = spawn(process.execPath, [`${root}build/test/support/many-tries.js`], { stdio: 'inherit' });
    const [exitCode] = (await once(tries, 'exit')) as [number];
    expect(exitCode).to.equal(0);
  });

  const changes: readonly (readonly [change: Partial<typeof rawHandle>, named: string])[] = [
    [{ acceptHandles: (_, __, onFailure) => onFailure() }, 'the handle of a connection'],
    [{ isReset: () => true }, 'the address of a client'],
    [
      {
        socketOn: () => {
          throw new TypeError('Invalid handle type');
        },
      },
      'a socket on a handle',
    ],
    [{ rawHandleOf: () => null }, 'a socket on a handle'],
    [{ unsentBytes: () => Number.NaN }, 'how many bytes wait to be sent'],
    [
      {
        stopReading: () => {
          throw new TypeError('handle.readStop is not a function');
        },
      },
      'reading that stops and goes on',
    ],
  ];
  for (const [change, named] of changes) {
    const [part] = Object.keys(change);
    it(`names what has changed, and the version of Node: ${part}`, async () => {
      const error = await tryHandles({ ...rawHandle, ...change }).then(
        () => null,
        (reason: unknown) => reason,
      );
      expect(error).to.be.instanceOf(OperatorError).and.include({ code: 'NODE_CHANGED' });
      expect((error as Error).message).to.include(`Node ${process.version} has changed inside: ${named} cannot be had`);
    });
  }
});
