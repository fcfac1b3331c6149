import { expect } from 'chai';
import { admission } from '#src/worker/admission.js';

const limits = { lengthFieldSize: 4, maxPayloadSizeKb: 1024, maxBufferedMb: 128 } as const;

/** Why a model is not admitted; null when it is. */
function refusal(server: Partial<Parameters<typeof admission>[0]>, model: object): string | null {
  const admit = admission({ ...limits, ...server });
  try {
    admit({ inputBytes: null, outputBytes: null, sample: null, ...model });
    return null;
  } catch (error) {
    return (error as Error).message;
  }
}

describe('what a model takes and answers', () => {
  it('may be as large as the limits say', () => {
    expect(refusal({}, { inputBytes: 1024 * 1024, outputBytes: 2 ** 27 })).to.equal(null);
    expect(refusal({ lengthFieldSize: 2 }, { inputBytes: 65_535, outputBytes: 65_535 })).to.equal(null);
    expect(refusal({}, {}), 'a module, which takes anything').to.equal(null);
  });

  it('is refused when clients may not send it, with the setting that lets it in', () => {
    const says =
      'one request has 1,048,577 bytes, more than server.maxPayloadSizeKb (1024) lets in: set it to 1025 or more';
    expect(refusal({}, { inputBytes: 1024 * 1024 + 1 })).to.equal(says);
    expect(refusal({ maxPayloadSizeKb: 1025 }, { inputBytes: 1024 * 1024 + 1 })).to.equal(null);
    expect(refusal({}, { sample: Buffer.alloc(2 ** 21) })).to.match(
      /^its sample has 2,097,152 bytes, more than server.max/,
    );
  });

  it('is refused when a length field cannot tell it, requests and replies alike', () => {
    const says =
      /65,536 bytes, more than a length field of 2 bytes can tell \(65,535\): set server.lengthFieldSize to 4/;
    expect(refusal({ lengthFieldSize: 2 }, { inputBytes: 65_536 }))
      .to.match(says)
      .and.match(/^one request/);
    expect(refusal({ lengthFieldSize: 2 }, { outputBytes: 65_536 }))
      .to.match(says)
      .and.match(/^one reply/);
  });

  it('is refused when a worker may not hold it', () => {
    const large = { inputBytes: 2 ** 20 + 4 };
    expect(refusal({ maxBufferedMb: 1, maxPayloadSizeKb: 4096 }, large)).to.match(
      /^one request has 1,048,580 bytes, more than all connections of a worker may hold \(server.maxBufferedMb, 1\): set it to 4/,
    );
  });
});
