import { expect } from 'chai';
import { acceptedCoding, codingOf, compress, decompress } from '#src/worker/http/content-coding.js';
import { openApiJson } from '#src/worker/http/openapi.js';
import { malformed, rawRefusal, refusalOf } from '#src/worker/http/refusal.js';
import { matchRoute, routes } from '#src/worker/http/routes.js';
import { parseAnswers } from '../../../support/http-rig.js';

const found = (method: string, url: string): string | null => {
  const match = matchRoute(method, url);
  return match === null
    ? null
    : [match.route?.operation ?? `not: ${match.allow}`, match.model, match.version].join(' ').trim();
};

describe('the paths of the HTTP API', () => {
  it('are told apart, with the model and the version that they name', () => {
    expect(found('GET', '/v2')).to.equal('serverMetadata');
    expect(found('GET', '/v2/')).to.equal('serverMetadata');
    expect(found('GET', '/v2/models/m')).to.equal('modelMetadata m');
    expect(found('GET', '/v2/models/m/versions/3')).to.equal('modelMetadata m 3');
    expect(found('POST', '/v2/models/m/infer')).to.equal('infer m');
    expect(found('POST', '/v2/models/m/versions/3/infer?x=1')).to.equal('infer m 3');
    expect(found('POST', 'http://host:8000/v2/models/m/infer')).to.equal('infer m');
    expect(found('GET', '/v2/models/stats')).to.equal('statistics');
    expect(found('GET', '/v2/models/stats/stats')).to.equal('statistics stats');
    expect(found('POST', '/v2/repository/models/m/load')).to.equal('notServed m');
  });

  it('take names in the form that URLs have for them', () => {
    expect(found('GET', '/v2/models/a%20b%2Fc')).to.equal('modelMetadata a b/c');
    expect(found('GET', '/v2/models/%C3%A9')).to.equal('modelMetadata é');
    expect(found('GET', '/v2/models/%zz')).to.equal(null);
    expect(found('GET', '/v2/models/%C3')).to.equal(null);
  });

  it('are no others', () => {
    for (const path of [
      '',
      '/',
      '/v1',
      '/v22',
      '/v2/models',
      '/v2/models/',
      '/v2/models//infer',
      '/v2/models/m/x',
      '*',
    ])
      expect(found('GET', path), path).to.equal(null);
    expect(found('GET', `/v2/models/${'m'.repeat(3000)}`)).to.equal(null);
    expect(found('GET', '/V2')).to.equal(null);
  });

  it('say which methods they have, and HEAD wherever there is GET', () => {
    expect(found('POST', '/v2')).to.equal('not: GET, HEAD');
    expect(found('HEAD', '/v2')).to.equal('serverMetadata');
    expect(found('GET', '/v2/models/m/infer')).to.equal('not: POST m');
    expect(found('POST', '/v2/trace/setting')).to.equal('not: GET, HEAD');
  });

  it('are found as fast whatever is asked for: few are remembered', () => {
    for (let i = 0; i < 5000; i++) expect(found('GET', `/v2/models/${i}`)).to.equal(`modelMetadata ${i}`);
  });
});

describe('the OpenAPI description', () => {
  interface Operation {
    readonly operationId: string;
    readonly parameters?: readonly { readonly name: string }[];
    readonly responses: Readonly<Record<string, unknown>>;
    readonly security?: readonly unknown[];
  }
  const description = JSON.parse(openApiJson()) as {
    readonly openapi: string;
    readonly paths: Readonly<Record<string, Readonly<Record<string, Operation>>>>;
    readonly components: { readonly schemas: Readonly<Record<string, unknown>> };
  };
  const operations = Object.entries(description.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => ({ path, method, operation })),
  );

  it('has the paths and methods that are served, and no others', () => {
    const described = operations.map(({ path, method }) => `${method.toUpperCase()} ${path}`);
    const served = routes.filter(({ operation }) => operation !== 'notServed');
    expect(described.sort()).to.deep.equal(served.map(({ method, path }) => `${method} ${path}`).sort());
  });

  it('gives each of them a name of its own, all that its path names, and an answer', () => {
    const ids = operations.map(({ operation }) => operation.operationId);
    expect(new Set(ids).size).to.equal(ids.length);
    for (const { path, operation } of operations) {
      const names = [...path.matchAll(/\{(\w+)\}/g)].map(([, name]) => name);
      expect(
        (operation.parameters ?? []).map(({ name }) => name),
        path,
      ).to.deep.equal(names);
      expect(operation.responses, path).to.include.keys('200');
    }
  });

  it('refers to schemas that it has', () => {
    const references = [...openApiJson().matchAll(/"#\/components\/schemas\/(\w+)"/g)].map(
      ([, name]) => name as string,
    );
    expect(references).to.include('InferenceRequest').and.include('ModelStatistics');
    expect(description.components.schemas).to.include.keys([...new Set(references)]);
  });

  it('asks for no secret where there are probes', () => {
    const free = operations.filter(({ operation }) => operation.security?.length === 0).map(({ path }) => path);
    expect(free).to.deep.equal(['/v2/health/live', '/v2/health/ready']);
  });
});

describe('a refusal over HTTP', () => {
  const [told] = parseAnswers(
    rawRefusal(refusalOf({ reason: 'QUEUE_FULL', message: 'the queue is "full": é', retryAfterMs: 1500.2 })),
  );

  it('has the status of its reason, and says why and when to try again', () => {
    expect(told?.status).to.equal(503);
    expect(JSON.parse(String(told?.body))).to.deep.equal({
      error: 'the queue is "full": é',
      reason: 'QUEUE_FULL',
      retry_after_ms: 1501,
    });
    expect(told?.headers).to.include({ 'retry-after': '2', 'retry-after-ms': '1501', connection: 'close' });
  });

  it('tells whole seconds, one at least, where another try may succeed', () => {
    const headersOf = (reason: 'QUEUE_FULL' | 'BAD_INPUT', retryAfterMs: number) =>
      parseAnswers(rawRefusal(refusalOf({ reason, message: '', retryAfterMs })))[0]?.headers;
    expect(headersOf('QUEUE_FULL', 0)).to.include({ 'retry-after': '1' });
    expect(headersOf('QUEUE_FULL', 3)).to.include({ 'retry-after': '1', 'retry-after-ms': '3' });
    expect(headersOf('BAD_INPUT', 0)).not.to.have.any.keys('retry-after', 'retry-after-ms');
  });

  it('of a wrong secret asks for one', () => {
    const [answer] = parseAnswers(rawRefusal(refusalOf({ reason: 'WRONG_SECRET', message: '', retryAfterMs: 0 })));
    expect(answer?.status).to.equal(401);
    expect(answer?.headers).to.include({ 'www-authenticate': 'Bearer' });
  });

  it('of a path names its methods', () => {
    const [answer] = parseAnswers(rawRefusal(malformed(405, 'no', ['Allow', 'GET'])));
    expect(answer?.status).to.equal(405);
    expect(answer?.headers).to.include({ allow: 'GET' });
  });
});

describe('compressed bodies', () => {
  it('are known by their header', () => {
    expect([undefined, '', 'identity', ' GZIP ', 'x-gzip', 'deflate'].map(codingOf)).to.deep.equal([
      null,
      null,
      null,
      'gzip',
      'gzip',
      'deflate',
    ]);
    for (const header of ['br', 'gzip, gzip', 'gzip, deflate', 'zstd']) expect(codingOf(header)).to.equal(undefined);
  });

  it('are sent to who takes them', () => {
    expect(acceptedCoding('gzip, deflate, br')).to.equal('gzip');
    expect(acceptedCoding('deflate')).to.equal('deflate');
    expect(acceptedCoding('deflate;q=0.5, GZIP;q=0')).to.equal('deflate');
    for (const header of [undefined, '', '*', 'br', 'gzip;q=0', 'gzip; q=0.0', 'notgzip'])
      expect(acceptedCoding(header), header).to.equal(null);
  });

  for (const coding of ['gzip', 'deflate'] as const)
    it(`become no more than they may: ${coding}`, async () => {
      const plain = Buffer.alloc(100_000, 'abc');
      const packed = await compress(coding, plain);
      expect(packed.length).to.be.lessThan(1000);
      expect((await decompress(coding, packed, 100_000))?.equals(plain)).to.equal(true);
      expect(await decompress(coding, packed, 99_999)).to.equal(null);
      for (const wrong of [packed.subarray(0, -1), Buffer.from('abc'), plain])
        expect(await decompress(coding, wrong, 100_000).catch(() => 'refused')).to.equal('refused');
    });
});
