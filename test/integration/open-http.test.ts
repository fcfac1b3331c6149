// HTTP/1.1 as a worker serves it, over real sockets: what clients get, and what they cannot do.

import { once } from 'node:events';
import { connect as connectTls, createServer, type TLSSocket } from 'node:tls';
import { deflateSync, gunzipSync, gzipSync } from 'node:zlib';
import { expect } from 'chai';
import fc from 'fast-check';
import { Authority } from '../support/certificates.js';
import {
  doubleBinary,
  doubleJson,
  HttpRig,
  jsonIn,
  parseAnswers,
  type RigOptions,
  requestBytes,
} from '../support/http-rig.js';
import { until } from '../support/until.js';

const infer = '/v2/models/double/infer';
const post = (body: string | Buffer, headers: Readonly<Record<string, string | number>> = {}, path = infer): Buffer =>
  requestBytes('POST', path, headers, body);
/** The first output of an answer in JSON. */
const dataIn = (answer: Parameters<typeof jsonIn>[0]): unknown =>
  (jsonIn(answer) as { readonly outputs: readonly { readonly data: unknown }[] }).outputs[0]?.data;
const binaryRequest = (x: readonly number[], headers: Readonly<Record<string, string | number>> = {}): Buffer => {
  const { body, jsonBytes } = doubleBinary(x);
  return post(body, { 'Inference-Header-Content-Length': jsonBytes, ...headers });
};

describe('HTTP in a worker', () => {
  let rig: HttpRig;
  const open = async (options: RigOptions = {}): Promise<HttpRig> => {
    rig = await HttpRig.open(options);
    return rig;
  };
  afterEach(() => rig.close());

  describe('answers', () => {
    it('rows in JSON, flat or nested, by the path of the model or of its version', async () => {
      await open();
      const client = await rig.client();
      const nested = JSON.stringify({
        id: 'a',
        inputs: [
          {
            name: 'x',
            datatype: 'FP32',
            shape: [2, 2],
            data: [
              [1, 2],
              [3, 4],
            ],
          },
        ],
      });
      client.send(post(doubleJson([0.5, -3])), post(nested, {}, '/v2/models/double/versions/1/infer'));
      const [flat, other] = await client.answered(2);
      expect(flat && jsonIn(flat)).to.deep.equal({
        model_name: 'double',
        model_version: '1',
        outputs: [{ name: 'y', datatype: 'FP32', shape: [1, 2], data: [1, -6] }],
      });
      expect(flat?.headers)
        .to.include({ 'content-type': 'application/json', connection: 'keep-alive' })
        .and.include.keys('date');
      expect(other && jsonIn(other)).to.include({ id: 'a' });
      expect(other && dataIn(other)).to.deep.equal([2, 4, 6, 8]);
    });

    it('rows in binary form, as the header says where the JSON ends', async () => {
      await open();
      const client = await rig.client();
      client.send(binaryRequest([0.5, -3]));
      const { status, headers, body } = await client.answer();
      const jsonBytes = Number(headers['inference-header-content-length']);
      expect({ status, type: headers['content-type'] }).to.deep.equal({
        status: 200,
        type: 'application/octet-stream',
      });
      expect(JSON.parse(body.toString('latin1', 0, jsonBytes)).outputs[0].parameters).to.deep.equal({
        binary_data_size: 8,
      });
      expect([body.readFloatLE(jsonBytes), body.readFloatLE(jsonBytes + 4)]).to.deep.equal([1, -6]);
    });

    it('what there is besides inference', async () => {
      await open();
      const client = await rig.client();
      const paths = [
        '',
        '/health/live',
        '/health/ready',
        '/models/double',
        '/models/double/ready',
        '/models/double/config',
        '/models/double/stats',
        '/models/stats',
        '/systemsharedmemory/status',
        '/cudasharedmemory/status',
        '/logging',
        '/openapi.json',
      ];
      client.send(
        ...paths.map((path) => requestBytes('GET', `/v2${path}`)),
        requestBytes('POST', '/v2/repository/index', {}, ''),
      );
      const answers = await client.answered(paths.length + 1);
      expect(answers.map(({ status }) => status)).to.deep.equal(answers.map(() => 200));
      const [server, live, ready, metadata, modelReady, config, stats, allStats, shared] = answers.map((answer) =>
        jsonIn(answer),
      );
      expect(server).to.include({ name: 'ml-tcp-server' });
      expect([live, ready]).to.deep.equal([{ live: true }, { live: true, ready: true }]);
      expect(metadata).to.deep.include({ name: 'double', inputs: [{ name: 'x', datatype: 'FP32', shape: [-1, 2] }] });
      expect(modelReady).to.deep.equal({ name: 'double', ready: true });
      expect(config).to.deep.include({
        name: 'double',
        input: [{ name: 'x', data_type: 'TYPE_FP32', dims: [2], optional: false }],
      });
      const named = (value: unknown) =>
        (value as { model_stats: { name: string }[] }).model_stats.map(({ name }) => name);
      expect([named(stats), named(allStats)]).to.deep.equal([['double'], ['double', 'echo', 'wide']]);
      expect(shared).to.deep.equal([]);
      const last = answers.at(-1);
      expect(last && (jsonIn(last) as unknown as { name: string }[]).map(({ name }) => name)).to.deep.equal([
        'double',
        'echo',
        'wide',
      ]);
    });

    it('HEAD with the headers of GET alone', async () => {
      await open();
      const get = await fetch(`${rig.url}/v2`);
      const head = await fetch(`${rig.url}/v2`, { method: 'HEAD' });
      expect(head.status).to.equal(200);
      expect(head.headers.get('content-length')).to.equal(String((await get.text()).length));
      expect(await head.text()).to.equal('');
    });

    it('that it is not ready while it drains, with 503', async () => {
      await open();
      rig.service.isReady = false;
      const client = await rig.client();
      client.send(
        requestBytes('GET', '/v2/health/ready'),
        requestBytes('GET', '/v2/health/live'),
        requestBytes('GET', '/v2/models/double/ready'),
      );
      const answers = await client.answered(3);
      expect(answers.map(({ status }) => status)).to.deep.equal([503, 200, 503]);
      expect(answers[0] && jsonIn(answers[0])).to.deep.equal({ live: true, ready: false });
    });

    it('pipelined requests in their order, however the models finish', async () => {
      await open();
      rig.double.isHeld = true;
      const client = await rig.client();
      const echo = (text: string) =>
        post(
          JSON.stringify({ inputs: [{ name: 'payload', datatype: 'BYTES', shape: [1], data: [text] }] }),
          {},
          '/v2/models/echo/infer',
        );
      client.send(post(doubleJson([1, 1])), echo('a'), requestBytes('GET', '/v2'), echo('b'));
      await until('both echoes to be answered', () => rig.counts.models.echo?.answered === 2 && rig.double.runs === 1);
      expect(client.answers).to.have.lengthOf(0);
      rig.double.release();
      const [first, second, third, fourth] = await client.answered(4);
      expect([first, second, fourth].map((answer) => answer && dataIn(answer))).to.deep.equal([[2, 2], ['a'], ['b']]);
      expect(third && jsonIn(third)).to.include({ name: 'ml-tcp-server' });
    });

    it('the same however the bytes of requests are cut', async () => {
      await open();
      const requests = [
        post(doubleJson([1, 2])),
        binaryRequest([3, 4]),
        requestBytes('GET', '/v2/models/double/ready'),
        Buffer.concat([
          requestBytes('POST', infer, { 'Transfer-Encoding': 'chunked' }),
          chunked(doubleJson([5, 6]), 7),
        ]),
        post(gzipSync(doubleJson([7, 8])), { 'Content-Encoding': 'gzip' }),
        post('{"inputs": 1}'),
        requestBytes('GET', '/v2/nowhere'),
      ];
      const all = Buffer.concat(requests);
      const bare = (bytes: string) => bytes.replace(/Date: .*/g, '');
      const whole = await rig.client();
      whole.send(all);
      await whole.answered(requests.length);
      await fc.assert(
        fc.asyncProperty(
          fc.uniqueArray(fc.integer({ min: 1, max: all.length - 1 }), { maxLength: 12 }),
          async (cuts) => {
            const client = await rig.client();
            let from = 0;
            for (const to of [...cuts.sort((a, b) => a - b), all.length]) {
              client.send(all.subarray(from, to));
              from = to;
              await new Promise(setImmediate);
            }
            await client.answered(requests.length);
            expect(bare(client.received)).to.equal(bare(whole.received));
            client.socket.destroy();
          },
        ),
        { numRuns: 40 },
      );
      const bytewise = await rig.client();
      for (const byte of all) {
        bytewise.send(Buffer.from([byte]));
        await new Promise(setImmediate);
      }
      await bytewise.answered(requests.length);
      expect(bare(bytewise.received)).to.equal(bare(whole.received));
    });

    it('nothing that follows a request with Connection: close', async () => {
      await open();
      const client = await rig.client();
      const last = post(doubleJson([3, 4]), { Connection: 'close' });
      client.send(post(doubleJson([1, 2])), last, post(doubleJson([5, 6])), '\r\nnonsense');
      await client.ended();
      expect(client.answers.map(dataIn)).to.deep.equal([
        [2, 4],
        [6, 8],
      ]);
      expect(rig.counts.models.double?.received).to.equal(2);
    });

    it('a client that has closed its side after its request, or speaks HTTP/1.0', async () => {
      await open();
      const half = await rig.client();
      rig.double.isHeld = true;
      half.send(post(doubleJson([1, 2])));
      half.socket.end();
      const old = await rig.client();
      old.send('GET /v2/health/live HTTP/1.0\r\n\r\n');
      expect((await old.answer()).headers).to.include({ connection: 'close' });
      await old.ended();
      await until('the request to wait', () => rig.double.runs === 1);
      rig.double.release();
      expect(dataIn(await half.answer())).to.deep.equal([2, 4]);
      await half.ended();
    });

    it('over TLS', async function () {
      this.timeout(20_000);
      await open();
      const authority = new Authority();
      const { cert, key } = authority.issue('localhost');
      const server = createServer({ cert, key, pauseOnConnect: true }, (socket) => {
        rig.http
          .serve(socket, { listener: { models: ['double'], defaultModel: null }, address: '', onClose: () => {} })
          .start();
      });
      server.listen(0, '127.0.0.1');
      await once(server, 'listening');
      const { port } = server.address() as { port: number };
      const socket: TLSSocket = connectTls({ host: '127.0.0.1', port, servername: 'localhost', ca: [authority.cert] });
      let bytes = Buffer.alloc(0);
      socket.on('data', (chunk) => {
        bytes = Buffer.concat([bytes, chunk]);
      });
      socket.write(Buffer.concat([post(doubleJson([1, 2])), binaryRequest([1, 2])]));
      const [answer] = await until('the answers', () => parseAnswers(bytes).length === 2 && parseAnswers(bytes));
      expect(answer && dataIn(answer)).to.deep.equal([2, 4]);
      socket.end();
      await once(socket, 'close');
      server.close();
    });

    it('bytes that were read before the socket came here', async () => {
      await open({ readsAhead: true });
      const client = await rig.client();
      client.send(post(doubleJson([1, 2])).subarray(0, 30));
      await until('them to be read', () => rig.connections.size === 1);
      client.send(post(doubleJson([1, 2])).subarray(30), post(doubleJson([3, 4])));
      expect((await client.answered(2)).map(dataIn)).to.deep.equal([
        [2, 4],
        [6, 8],
      ]);
    });

    it('large JSON, without a pause for the rest', async () => {
      const width = 40_000;
      await open({ width });
      const client = await rig.client();
      const row = Array.from({ length: width }, (_, i) => i / 7);
      client.send(post(doubleJson(row), {}, '/v2/models/wide/infer'));
      const answer = await client.answer();
      expect(answer.body.length).to.be.greaterThan(300_000);
      expect(dataIn(answer)).to.deep.equal(row.map((value) => Number(shortest(2 * Math.fround(value)))));
    });
  });

  describe('compression', () => {
    it('of requests: the header counts the JSON inside', async () => {
      await open();
      const client = await rig.client();
      const { body, jsonBytes } = doubleBinary([1, 2]);
      client.send(
        post(gzipSync(doubleJson([1, 2])), { 'Content-Encoding': 'gzip' }),
        post(deflateSync(doubleJson([1, 2])), { 'Content-Encoding': 'deflate' }),
        post(gzipSync(body), { 'Content-Encoding': 'gzip', 'Inference-Header-Content-Length': jsonBytes }),
        post('not gzip', { 'Content-Encoding': 'gzip' }),
        post(doubleJson([1, 2]), { 'Content-Encoding': 'identity' }),
      );
      expect((await client.answered(5)).map(({ status }) => status)).to.deep.equal([200, 200, 200, 400, 200]);
    });

    it('of answers that are worth it, to who takes it', async () => {
      await open();
      const client = await rig.client();
      const row = JSON.stringify({
        inputs: [{ name: 'x', datatype: 'FP32', shape: [1, 1000], data: Array(1000).fill(1) }],
      });
      client.send(
        post(row, { 'Accept-Encoding': 'deflate, gzip' }, '/v2/models/wide/infer'),
        post(row, {}, '/v2/models/wide/infer'),
        post(doubleJson([1, 2]), { 'Accept-Encoding': 'gzip' }),
        requestBytes('GET', '/v2/openapi.json', { 'Accept-Encoding': 'gzip' }),
      );
      const [packed, plain, small, description] = await client.answered(4);
      expect(packed?.headers).to.include({ 'content-encoding': 'gzip', vary: 'Accept-Encoding' });
      expect(packed && gunzipSync(packed.body).equals(plain?.body as Buffer)).to.equal(true);
      expect(plain?.headers).not.to.include.keys('content-encoding');
      expect(small?.headers).not.to.include.keys('content-encoding');
      expect(
        description && jsonIn(description),
        'some clients ask for all to be compressed, and read no documents that are',
      ).to.include({
        openapi: '3.1.0',
      });
    });

    it('of nothing else, whatever a client takes', async () => {
      await open();
      const client = await rig.client();
      client.send(requestBytes('GET', '/v2/openapi.json', { 'Accept-Encoding': 'gzip' }));
      const { headers, body } = await client.answer();
      expect(headers).not.to.include.keys('content-encoding');
      expect(body.length).to.be.greaterThan(2000);
    });

    it('never makes more of a few bytes than a body may have', async () => {
      await open({ limits: { maxPayloadBytes: 100_000, maxJsonBytes: 50_000 } });
      const client = await rig.client();
      const bomb = gzipSync(Buffer.alloc(50 << 20));
      const small = gzipSync(Buffer.alloc(60_000, ' '));
      client.send(
        post(small, { 'Content-Encoding': 'gzip' }),
        post(bomb, { 'Content-Encoding': 'gzip', 'Inference-Header-Content-Length': 5 }),
      );
      const answers = await client.answered(2);
      expect(answers.map(({ status }) => status)).to.deep.equal([413, 413]);
    });
  });

  describe('refuses', () => {
    it('paths, methods and encodings that there are not, and keeps the connection', async () => {
      await open();
      const client = await rig.client();
      client.send(
        requestBytes('GET', '/v1'),
        requestBytes('GET', infer),
        requestBytes('DELETE', '/v2'),
        requestBytes('GET', '/v2/models/nope'),
        requestBytes('GET', '/v2/models/double/versions/7/ready'),
        post(doubleJson([1, 2]), {}, '/v2/models/nope/infer'),
        post('{}', {}, '/v2/repository/models/double/load'),
        requestBytes('GET', '/v2'),
      );
      const answers = await client.answered(8);
      expect(answers.map(({ status }) => status)).to.deep.equal([404, 405, 405, 404, 404, 404, 501, 200]);
      expect(answers[1]?.headers).to.include({ allow: 'POST' });
      expect(answers[2]?.headers).to.include({ allow: 'GET, HEAD' });
      expect(answers[3] && jsonIn(answers[3])).to.deep.include({ reason: 'MODEL_NOT_FOUND' });
      for (const answer of answers.slice(0, 7)) expect(jsonIn(answer).error).to.be.a('string');
      expect(rig.counted(/^(malformed|unknownModel)$/)).to.deep.equal({ malformed: 3, unknownModel: 3 });
    });

    for (const [what, headers, status] of [
      ['an encoding that is not known', { 'Content-Encoding': 'br' }, 415],
      ['an expectation that is not known', { Expect: 'cats' }, 417],
    ] as const)
      it(`${what}, with ${status}, and reads no more of it`, async () => {
        await open();
        const client = await rig.client();
        client.send(post(doubleJson([1, 2]), headers));
        const answer = await client.answer();
        expect(answer.status).to.equal(status);
        expect(answer.headers).to.include({ connection: 'close' });
        await client.ended();
      });

    it('tensors that do not fit, with what was expected, and counts them for the model', async () => {
      await open();
      const client = await rig.client();
      client.send(
        post(doubleJson([1, 2, 3])),
        post('{"inputs": [}'),
        binaryRequest([1, 2], { 'Inference-Header-Content-Length': 9999 }),
        post(''),
      );
      const answers = await client.answered(4);
      expect(answers.map(({ status }) => status)).to.deep.equal([400, 400, 400, 400]);
      expect(answers[0] && jsonIn(answers[0])).to.deep.equal({
        error: 'input "x" should be FP32[-1,2], and is FP32[1,3]',
        reason: 'BAD_INPUT',
      });
      expect(rig.counts.models.double).to.include({ received: 4, refusedBadInput: 4 });
    });

    it('what JSON cannot say, with a hint', async () => {
      await open();
      const client = await rig.client();
      client.send(post(doubleJson([3e38, 1])));
      const answer = await client.answer();
      expect(answer.status).to.equal(500);
      expect(jsonIn(answer).error).to.include('Infinity, which JSON cannot say: ask for it in binary form');
      expect(rig.counts.models.double).to.include({ received: 1, failed: 1, answered: 0 });
    });

    it('a full queue with 503 and when to come again', async () => {
      await open({ batching: { maxQueue: 1, maxBatchSize: 1 } });
      rig.double.isHeld = true;
      const clients = await Promise.all(Array.from({ length: 8 }, () => rig.client()));
      for (const client of clients) client.send(post(doubleJson([1, 2])));
      const refused = await until('one to be refused', () => clients.flatMap(({ answers }) => answers)[0]);
      expect(refused.status).to.equal(503);
      expect(jsonIn(refused)).to.include({ reason: 'QUEUE_FULL' });
      expect(Number(refused.headers['retry-after'])).to.be.at.least(1);
      rig.double.release();
      await Promise.all(clients.map((client) => client.answered(1)));
    });

    it('a body that is announced too large before it is sent, and one that becomes too large', async () => {
      await open({ limits: { maxPayloadBytes: 10_000, maxJsonBytes: 1000 } });
      const chunks = { 'Transfer-Encoding': 'chunked' };
      const mixed = { 'Inference-Header-Content-Length': 500 };
      for (const [sent, isRefused] of [
        [requestBytes('POST', infer, { 'Content-Length': 10_001 }), true],
        [requestBytes('POST', infer, { 'Content-Length': 1001 }), true],
        [requestBytes('POST', infer, { 'Content-Length': 10_001, ...mixed }), true],
        [requestBytes('POST', infer, { 'Content-Length': 10_000, ...mixed }), false],
        [requestBytes('POST', infer, { 'Content-Length': 1000 }), false],
        [Buffer.concat([requestBytes('POST', infer, chunks), chunked(Buffer.alloc(1001, ' '), 100, false)]), true],
        [
          Buffer.concat([
            requestBytes('POST', infer, { ...chunks, ...mixed }),
            chunked(Buffer.alloc(10_001, ' '), 100, false),
          ]),
          true,
        ],
      ] as const) {
        const client = await rig.client();
        client.send(sent);
        if (!isRefused) {
          client.send(requestBytes('GET', '/v2')); // the body of the one before
          await until('it to be read', () => rig.counts.bytesReceived >= 0);
          expect(client.answers).to.deep.equal([]);
          client.socket.destroy();
          continue;
        }
        const answer = await client.answer();
        expect({ status: answer.status, ...jsonIn(answer) }).to.include({ status: 413, reason: 'PAYLOAD_TOO_LARGE' });
        expect(answer.headers).to.include({ connection: 'close' });
        await client.ended();
      }
      await until('all to close', () => rig.connections.size === 0);
      expect(rig.closedBy).to.deep.equal({ closedByPayloadTooLarge: 5, closedByClient: 2 });
      expect(rig.counts.models.double).to.include({ refusedPayloadTooLarge: 5, received: 5 });
    });

    it('a body that a client sends nevertheless, which still gets the answer', async () => {
      await open({ limits: { maxPayloadBytes: 10_000 } });
      for (let round = 0; round < 4; round++) {
        const client = await rig.client();
        client.send(requestBytes('POST', infer, { 'Content-Length': 1 << 30 }), Buffer.alloc(8 << 20));
        await client.ended();
        expect(client.answers.map(({ status }) => status)).to.deep.equal([413]);
        await client.closed;
        expect(client.error).to.equal(null);
      }
    });

    it('JSON beyond its own limit, although binary tensors behind it may be larger', async () => {
      await open({ limits: { maxPayloadBytes: 10_000, maxJsonBytes: 300 } });
      const client = await rig.client();
      const json = `{"padding":"${' '.repeat(300)}"}`;
      client.send(binaryRequest([1, 2]), post(json, { 'Inference-Header-Content-Length': json.length }));
      expect((await client.answered(2)).map(({ status }) => status)).to.deep.equal([200, 413]);
    });

    it('a body that nobody should send, before the client sends it: Expect', async () => {
      await open({ limits: { maxPayloadBytes: 10_000 }, secret: 'hush' });
      const trusted = { Authorization: 'Bearer hush', Expect: '100-continue' };
      const body = doubleJson([1, 2]);
      const good = await rig.client();
      good.send(requestBytes('POST', infer, { ...trusted, 'Content-Length': body.length }));
      expect((await good.answer()).status).to.equal(100);
      good.send(body);
      expect((await good.answer(2)).status).to.equal(200);
      for (const [headers, status] of [
        [{ ...trusted, 'Content-Length': 10_001 }, 413],
        [{ Expect: '100-continue', 'Content-Length': body.length }, 401],
      ] as const) {
        const bad = await rig.client();
        bad.send(requestBytes('POST', infer, headers));
        expect((await bad.answer()).status).to.equal(status);
        await bad.ended();
        expect(bad.answers).to.have.lengthOf(1);
      }
    });

    it('a client that has no secret, except probes', async () => {
      await open({ secret: 'hush é' });
      const wrong = ['', 'Bearer', 'Bearer ', 'Bearer hush', 'Basic hush', 'hush é', 'Bearer hush é!'];
      for (const authorization of wrong) {
        const client = await rig.client();
        client.send(post(doubleJson([1, 2]), authorization === '' ? {} : { Authorization: authorization }));
        const answer = await client.answer();
        expect({ status: answer.status, ...jsonIn(answer) }, authorization).to.include({
          status: 401,
          reason: 'WRONG_SECRET',
        });
        await client.ended();
      }
      const client = await rig.client();
      client.send(
        requestBytes('GET', '/v2/health/live'),
        requestBytes('GET', '/v2/health/ready'),
        requestBytes('GET', '/v2', { authorization: 'bearer hush é' }),
      );
      expect((await client.answered(3)).map(({ status }) => status)).to.deep.equal([200, 200, 200]);
      await until('the others to close', () => rig.connections.size === 1);
      expect(rig.closedBy).to.deep.equal({ closedBySecret: wrong.length });
      expect(rig.double.runs).to.equal(0);
    });

    it('what is no HTTP, or could be read in two ways, and nothing after it', async () => {
      await open();
      const smuggled = 'GET /v2/health/live HTTP/1.1\r\nHost: a\r\n\r\n';
      const heads: Readonly<Record<string, readonly [string, number]>> = {
        'two lengths': ['POST /v2 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n', 400],
        'a length and chunks': [
          'POST /v2 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n',
          400,
        ],
        'a length that is none': ['POST /v2 HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\n', 400],
        'an encoding behind chunks': [
          'POST /v2 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, identity\r\n\r\n',
          400,
        ],
        'a space before a colon': ['POST /v2 HTTP/1.1\r\nHost: a\r\nContent-Length : 5\r\n\r\n', 400],
        'no host': ['GET /v2 HTTP/1.1\r\n\r\n', 400],
        'a zero in a header': ['GET /v2 HTTP/1.1\r\nHost: a\r\nX: \0\r\n\r\n', 400],
        'an unknown method': ['CATS /v2 HTTP/1.1\r\nHost: a\r\n\r\n', 400],
        'a proxy request': ['CONNECT example:80 HTTP/1.1\r\nHost: a\r\n\r\n', 405],
        'a large head': [`GET /v2 HTTP/1.1\r\nHost: a\r\nX: ${'x'.repeat(17_000)}\r\n\r\n`, 431],
        'a bad chunk': [
          'POST /v2/models/double/infer HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n',
          400,
        ],
        'another protocol': ['\x16\x03\x01\x02\x00\x01', 400],
      };
      for (const [what, [head, status]] of Object.entries(heads)) {
        const client = await rig.client();
        client.send(requestBytes('GET', '/v2/health/live'), Buffer.from(head, 'latin1'), smuggled);
        await client.ended();
        expect(
          client.answers.map((answer) => answer.status),
          what,
        ).to.deep.equal([200, status]);
        expect(client.answers[1]?.headers, what).to.include({ connection: 'close' });
      }
    });

    it('whatever else may come, and serves on', async () => {
      await open({ limits: { maxPayloadBytes: 5000, maxJsonBytes: 1000 } });
      const seeds = [
        post(doubleJson([1, 2])),
        binaryRequest([1, 2], { 'Accept-Encoding': 'gzip', Expect: '100-continue' }),
        post(gzipSync(doubleJson([1, 2])), { 'Content-Encoding': 'gzip' }),
        Buffer.concat([
          requestBytes('POST', infer, { 'Transfer-Encoding': 'chunked' }),
          chunked(doubleJson([1, 2]), 9),
        ]),
        requestBytes('GET', '/v2/models/double/versions/1/config'),
      ];
      const good = await rig.client();
      let asked = 0;
      await fc.assert(
        fc.asyncProperty(
          fc.array(fc.constantFrom(...seeds), { minLength: 1, maxLength: 4 }),
          fc.array(fc.record({ at: fc.nat(), byte: fc.integer({ min: 0, max: 255 }), isCut: fc.boolean() }), {
            maxLength: 6,
          }),
          async (requests, changes) => {
            let bytes = Buffer.concat(requests);
            for (const { at, byte, isCut } of changes) {
              const place = at % bytes.length;
              if (isCut) bytes = Buffer.concat([bytes.subarray(0, place), bytes.subarray(place + (byte % 16))]);
              else bytes[place] = byte;
            }
            const client = await rig.client();
            client.send(bytes);
            client.socket.end();
            await until('the end', () => client.hasEnded, { intervalMs: 1 });
            expect(client.answers.length).to.be.at.most(20);
            expect(client.answers.filter(({ status }) => status >= 500)).to.deep.equal([]);
            good.send(post(doubleJson([1, 2])));
            expect((await good.answer(++asked)).status).to.equal(200);
          },
        ),
        { numRuns: 150 },
      );
      await until('all to close', () => rig.connections.size === 1);
      const { double } = rig.counts.models;
      const ends = ['answered', 'failed', 'refusedBadInput', 'refusedPayloadTooLarge', 'abandoned'] as const;
      expect(ends.reduce((sum, end) => sum + (double?.[end] ?? 0), 0)).to.equal(double?.received);
    });

    it('an upgrade, by answering in HTTP/1.1', async () => {
      await open();
      const client = await rig.client();
      client.send(requestBytes('GET', '/v2/health/live', { Connection: 'Upgrade, HTTP2-Settings', Upgrade: 'h2c' }));
      expect((await client.answer()).status).to.equal(200);
    });
  });

  describe('bounds', () => {
    it('how long a head and a body may take, with 408', async () => {
      await open({ limits: { payloadTimeoutMs: 100 } });
      const [head, body, later] = [await rig.client(), await rig.client(), await rig.client()];
      head.send('GET /v2 HTT');
      body.send(post(doubleJson([1, 2])).subarray(0, -1));
      later.send(requestBytes('GET', '/v2'));
      await later.answer();
      later.send('POST /v2/models/double/in');
      for (const [client, count] of [
        [head, 1],
        [body, 1],
        [later, 2],
      ] as const) {
        const answer = await client.answer(count);
        expect({ status: answer.status, ...jsonIn(answer) }).to.include({ status: 408, reason: 'PAYLOAD_TIMEOUT' });
        await client.ended();
      }
      await until('all to close', () => rig.connections.size === 0);
      expect(rig.closedBy).to.deep.equal({ closedByPayloadTimeout: 3 });
    });

    it('how long a client may be silent, but not how long a model takes', async () => {
      await open({ limits: { idleTimeoutMs: 100 } });
      rig.double.isHeld = true;
      const [silent, idle, waiting] = [await rig.client(), await rig.client(), await rig.client()];
      idle.send(requestBytes('GET', '/v2'));
      waiting.send(post(doubleJson([1, 2])));
      await Promise.all([silent.ended(), idle.ended()]);
      expect(waiting.hasEnded).to.equal(false);
      rig.double.release();
      await waiting.answer();
      await waiting.ended();
      await until('all to close', () => rig.connections.size === 0);
      expect(rig.closedBy).to.deep.equal({ closedByIdleTimeout: 3 });
    });

    it('how many requests of a connection wait, without losing any', async () => {
      await open({ limits: { maxInFlight: 3 } });
      rig.double.isHeld = true;
      const client = await rig.client();
      const rows = Array.from({ length: 40 }, (_, i) => [i, i + 1]);
      client.send(...rows.map((row) => post(doubleJson(row))));
      await until('it to be paused', () => rig.counts.pausedByInFlight > 0 && rig.double.runs > 0);
      expect([...rig.connections].map(({ inFlight }) => inFlight)).to.deep.equal([3]);
      const others = Array.from({ length: 3000 }, () => post(doubleJson([1, 1])));
      client.send(...others);
      // It is not read on, however much comes and however long the turns of others go on.
      const other = await rig.client();
      for (let i = 1; i <= 50; i++) {
        other.send(requestBytes('GET', '/v2'));
        await other.answer(i);
      }
      expect(rig.bytesRead).to.be.lessThan(100_000).and.lessThan(Buffer.concat(others).length);
      rig.double.release();
      const answers = await client.answered(40);
      expect(answers.slice(0, 40).map(dataIn)).to.deep.equal(rows.map((row) => row.map((value) => 2 * value)));
    });

    it('what all hold together: large bodies come one after the other, and none fails', async () => {
      await open({ maxBufferedBytes: 300_000, limits: { maxInFlight: 8 } });
      const clients = await Promise.all(Array.from({ length: 6 }, () => rig.client()));
      const json = JSON.stringify({
        inputs: [{ name: 'payload', datatype: 'BYTES', shape: [1], parameters: { binary_data_size: 200_004 } }],
      });
      const body = Buffer.concat([
        Buffer.from(json),
        Buffer.from(Uint32Array.of(200_000).buffer),
        Buffer.alloc(200_000, 'z'),
      ]);
      const sent = post(body, { 'Inference-Header-Content-Length': json.length }, '/v2/models/echo/infer');
      for (const client of clients) client.send(sent.subarray(0, -10));
      await until('some to be paused', () => rig.counts.pausedByMemory > 0);
      for (const client of clients) client.send(sent.subarray(-10));
      const answers = await Promise.all(clients.map((client) => client.answer()));
      expect(answers.map(({ status }) => status)).to.deep.equal(answers.map(() => 200));
    });

    it('how long a client may leave its answers unread', async () => {
      await open({ limits: { writeTimeoutMs: 200, maxInFlight: 1000 }, width: 20_000 });
      const client = await rig.client();
      client.socket.pause();
      const json = JSON.stringify({
        inputs: [{ name: 'x', datatype: 'FP32', shape: [1, 20_000], parameters: { binary_data_size: 80_000 } }],
        parameters: { binary_data_output: true },
      });
      const sent = post(
        Buffer.concat([Buffer.from(json), Buffer.alloc(80_000)]),
        { 'Inference-Header-Content-Length': json.length },
        '/v2/models/wide/infer',
      );
      for (let i = 0; i < 300; i++) client.send(sent);
      await until('it to be cut', () => rig.connections.size === 0);
      expect(rig.closedBy).to.deep.equal({ closedByWriteTimeout: 1 });
      expect(rig.counts.pausedByWriteBuffer).to.be.greaterThan(0);
      expect(rig.counts.models.wide?.received).to.be.lessThan(300);
    });

    it('forgets what a client has asked that is gone, and counts it once', async () => {
      await open();
      rig.double.isHeld = true;
      const client = await rig.client();
      client.send(post(doubleJson([1, 2])), post(doubleJson([1, 2])), post(doubleJson([1, 2])).subarray(0, -3));
      await until('both to run', () => rig.double.runs >= 1 && rig.counts.models.double?.received === 2);
      client.socket.resetAndDestroy();
      await until('it to close', () => rig.connections.size === 0);
      expect(rig.closedBy).to.deep.equal({ closedByError: 1 });
      expect(rig.counted(/^framesTruncated/)).to.deep.equal({ framesTruncated: 1 });
      expect(rig.counts.models.double).to.include({ received: 2, abandoned: 2, answered: 0 });
      rig.double.release();
    });

    it('counts bytes as they travel', async () => {
      await open();
      const client = await rig.client();
      const sent = post(doubleJson([1, 2]));
      client.send(sent, sent);
      await client.answered(2);
      client.socket.end();
      await until('it to close', () => rig.connections.size === 0);
      expect(rig.counts).to.include({ bytesReceived: 2 * sent.length, bytesSent: client.received.length });
    });
  });

  describe('a drain', () => {
    it('answers what is in flight, says so with the last answer, and closes', async () => {
      await open();
      rig.double.isHeld = true;
      const client = await rig.client();
      client.send(post(doubleJson([1, 2])), post(doubleJson([3, 4])));
      await until('both to wait', () => [...rig.connections][0]?.inFlight === 2);
      for (const connection of rig.connections) connection.drain();
      rig.double.release();
      const answers = await client.answered(2);
      expect(answers.map(({ headers }) => headers.connection)).to.deep.equal(['keep-alive', 'close']);
      expect(answers.map(dataIn)).to.deep.equal([
        [2, 4],
        [6, 8],
      ]);
      await client.ended();
      await until('it to close', () => rig.connections.size === 0);
      expect(rig.closedBy).to.deep.equal({ closedByDrain: 1 });
    });

    it('answers a request that was on its way to an idle connection', async () => {
      await open();
      const [busy, idle] = [await rig.client(), await rig.client()];
      for (const client of [busy, idle]) client.send(post(doubleJson([1, 2])));
      for (const client of [busy, idle]) await client.answer();
      for (const connection of rig.connections) connection.drain();
      await new Promise((resolve) => setTimeout(resolve, 50)); // as a client does between requests
      busy.send(post(doubleJson([5, 6])));
      const answer = await busy.answer(2);
      expect(answer.headers.connection).to.equal('close');
      expect(dataIn(answer)).to.deep.equal([10, 12]);
      await busy.ended();
      await idle.ended();
      expect(idle.answers).to.have.lengthOf(1);
      await until('both to close', () => rig.connections.size === 0);
      expect(rig.closedBy).to.deep.equal({ closedByDrain: 2 });
    });

    it('asks no model for what comes after the last answer', async () => {
      await open();
      rig.double.isHeld = true;
      const echo = post(
        JSON.stringify({ inputs: [{ name: 'payload', datatype: 'BYTES', shape: [1], data: ['a'] }] }),
        {},
        '/v2/models/echo/infer',
      );
      const client = await rig.client();
      const sent = Buffer.concat([post(doubleJson([1, 2])), echo]);
      client.send(sent.subarray(0, 10));
      await until('it to come', () => rig.bytesRead === 10);
      for (const connection of rig.connections) connection.drain();
      client.send(sent.subarray(10));
      await until('the second to be answered', () => rig.counts.models.echo?.answered === 1);
      client.send(echo, echo);
      await until('the others to be read', () => rig.bytesRead === sent.length + 2 * echo.length);
      rig.double.release();
      await client.ended();
      expect(client.answers.map(({ headers }) => headers.connection)).to.deep.equal(['keep-alive', 'close']);
      expect(rig.counts.models.echo?.received).to.equal(1);
    });

    it('waits for a request that has begun to come', async () => {
      await open();
      const client = await rig.client();
      const sent = post(doubleJson([1, 2]));
      client.send(sent.subarray(0, 20));
      await until('it to come', () => rig.connections.size === 1);
      for (const connection of rig.connections) connection.drain();
      await new Promise((resolve) => setTimeout(resolve, 700)); // longer than the grace
      client.send(sent.subarray(20));
      expect(dataIn(await client.answer())).to.deep.equal([2, 4]);
      await client.ended();
    });
  });
});

/** The fewest digits that are this number in 32 bits. */
function shortest(value: number): string {
  for (let digits = 1; digits < 10; digits++)
    if (Math.fround(Number(value.toPrecision(digits))) === value) return value.toPrecision(digits);
  return String(value);
}

function chunked(body: string | Buffer, size: number, isEnded = true): Buffer {
  const bytes = Buffer.from(body);
  const parts: Buffer[] = [];
  for (let at = 0; at < bytes.length; at += size) {
    const part = bytes.subarray(at, at + size);
    parts.push(Buffer.from(`${part.length.toString(16)}\r\n`), part, Buffer.from('\r\n'));
  }
  return Buffer.concat([...parts, Buffer.from(isEnded ? '0\r\n\r\n' : '')]);
}
