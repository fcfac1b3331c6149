// gRPC as a worker serves it, over real sockets: what clients of the library for Node get, and what hostile ones cannot
// do, who write their own frames.

import { once } from 'node:events';
import { connect as connectHttp2 } from 'node:http2';
import { deflateSync, gunzipSync, gzipSync } from 'node:zlib';
import * as grpc from '@grpc/grpc-js';
import { expect } from 'chai';
import protobuf from 'protobufjs';
import descriptor from 'protobufjs/ext/descriptor/index.js';
import { Authority } from '../support/certificates.js';
import {
  doubleRequest,
  type GrpcClient,
  GrpcRig,
  type GrpcRigOptions,
  numbersIn,
  type Outcome,
  streamed,
} from '../support/grpc-rig.js';
import {
  callHeaders,
  endHeaders,
  endStream,
  field,
  frame,
  frameTypes,
  grpcMessage,
  Http2Client,
} from '../support/http2-client.js';
import { encodeByOthers, type Plain } from '../support/protos.js';
import { until } from '../support/until.js';

const { status } = grpc;
const infer = '/inference.GRPCInferenceService/ModelInfer';
const live = '/inference.GRPCInferenceService/ServerLive';
const requestBytes = (numbers: readonly number[]): Buffer =>
  encodeByOthers('inference.ModelInferRequest', doubleRequest(numbers));
const failureOf = ({ code, reason }: Outcome) => [code, reason];

describe('gRPC in a worker', () => {
  let rig: GrpcRig;
  let client: GrpcClient;
  const open = async (options: GrpcRigOptions = {}): Promise<GrpcRig> => {
    rig = await GrpcRig.open(options);
    client = rig.client();
    return rig;
  };
  afterEach(() => rig.close());

  const counted = (model = 'double') => rig.worker.counts.models[model];
  const closedBy = () => rig.worker.closedBy;

  describe('answers', () => {
    it('rows with what the model makes of them, and counts each call once', async () => {
      await open();
      const { value, code } = await client.infer(doubleRequest([1, 2.5, -3, 4], { id: 'seven' }));
      expect(code).to.equal(status.OK);
      expect(numbersIn(value)).to.deep.equal([2, 5, -6, 8]);
      expect(value).to.deep.include({ model_name: 'double', model_version: '1', id: 'seven' });
      const outcomes = await Promise.all(Array.from({ length: 500 }, (_, i) => client.infer(doubleRequest([i, -i]))));
      for (const [i, one] of outcomes.entries()) expect(numbersIn(one.value)).to.deep.equal([2 * i, -2 * i]);
      expect(counted()).to.include({ received: 501, answered: 501, abandoned: 0 });
    });

    it('each call that a client of Triton or KServe makes, and says that it has no others', async () => {
      await open();
      const ask = async (method: string, request: Plain = {}) => (await client.call(method, request)).value;
      expect(await ask('ServerLive')).to.deep.equal({ live: true });
      expect(await ask('ServerReady')).to.deep.equal({ ready: true });
      expect(await ask('ModelReady', { name: 'double' })).to.deep.equal({ ready: true });
      expect(await ask('ModelReady', { name: 'none' })).to.deep.equal({ ready: false });
      expect((await ask('ServerMetadata')).name).to.be.a('string');
      const metadata = (await ask('ModelMetadata', { name: 'double' })) as { readonly inputs: readonly Plain[] };
      expect(metadata.inputs[0]).to.deep.include({ name: 'x', datatype: 'FP32', shape: ['-1', '2'] });
      const { config } = (await ask('ModelConfig', { name: 'double' })) as { readonly config: Plain };
      expect(config.name).to.equal('double');
      const { model_stats } = (await ask('ModelStatistics', { name: 'double' })) as { readonly model_stats: Plain[] };
      expect(model_stats[0]?.name).to.equal('double');
      const { models } = (await ask('RepositoryIndex')) as { readonly models: readonly Plain[] };
      expect(models.map(({ name }) => name)).to.have.members(['double', 'echo', 'wide']);
      for (const method of ['SystemSharedMemoryStatus', 'CudaSharedMemoryStatus', 'TraceSetting', 'LogSettings'])
        expect((await client.call(method, {})).code, method).to.equal(status.OK);
      for (const method of ['RepositoryModelLoad', 'SystemSharedMemoryRegister', 'Nothing'])
        expect((await client.call(method, {})).code, method).to.equal(status.UNIMPLEMENTED);
      expect((await client.call('ModelMetadata', { name: 'none' })).code).to.equal(status.NOT_FOUND);
    });

    it('a failed call with its code, our reason, what came, and when to try again', async () => {
      await open({ batching: { maxQueue: 1 } });
      const unknown = await client.infer(doubleRequest([1, 2], { model_name: 'n%ö' }));
      expect(failureOf(unknown)).to.deep.equal([status.NOT_FOUND, 'MODEL_NOT_FOUND']);
      expect(unknown.details).to.contain("unknown model: 'n%ö' is not found");
      const shaped = await client.infer(
        doubleRequest([1, 2], { inputs: [{ name: 'x', datatype: 'INT8', shape: [8] }] }),
      );
      expect(failureOf(shaped)).to.deep.equal([status.INVALID_ARGUMENT, 'BAD_INPUT']);
      expect(shaped.details).to.contain('FP32[-1,2]').and.contain('INT8[8]');
      const broken = await client.infer(Buffer.from([0x0a, 0x7f, 1]));
      expect(failureOf(broken)).to.deep.equal([status.INVALID_ARGUMENT, 'MALFORMED']);
      const late = await client.infer(doubleRequest([1, 2]), { 'grpc-timeout': '5parsecs' });
      expect(failureOf(late)).to.deep.equal([status.INVALID_ARGUMENT, 'MALFORMED']);
      rig.worker.double.isHeld = true;
      const some = Array.from({ length: 40 }, () => client.infer(doubleRequest([1, 2])));
      const full = await Promise.race(some);
      expect(failureOf(full)).to.deep.equal([status.UNAVAILABLE, 'QUEUE_FULL']);
      rig.worker.double.release();
      await Promise.all(some);
      const { received = 0, answered = 0, refusedQueueFull = 0, refusedBadInput = 0 } = counted() ?? {};
      expect(refusedBadInput).to.equal(1);
      expect(received).to.equal(answered + refusedQueueFull + refusedBadInput);
      expect(rig.worker.counted(/^(unknownModel|malformed)$/)).to.deep.equal({ unknownModel: 1, malformed: 2 });
    });

    it('messages that are compressed, short and long, as its client compresses', async () => {
      await open();
      const text = Buffer.alloc(300_000, 'abc');
      for (const [algorithm, name] of [
        [grpc.compressionAlgorithms.deflate, 'deflate'],
        [grpc.compressionAlgorithms.gzip, 'gzip'],
      ] as const) {
        const packing = rig.client(undefined, { 'grpc.default_compression_algorithm': algorithm });
        const short = await packing.infer(doubleRequest([1, 2]));
        expect(numbersIn(short.value), name).to.deep.equal([2, 4]);
        const element = Buffer.alloc(4);
        element.writeUInt32LE(text.length);
        const request = {
          model_name: 'echo',
          inputs: [{ name: 'payload', datatype: 'BYTES', shape: [1] }],
          raw_input_contents: [Buffer.concat([element, text])],
        };
        const long = await packing.infer(request);
        expect(long.code, long.details).to.equal(status.OK);
        const [raw] = long.value.raw_output_contents as readonly Buffer[];
        expect(raw?.subarray(4).equals(text), name).to.equal(true);
      }
      const raw = await Http2Client.open(rig.port);
      const message = grpcMessage(gzipSync(requestBytes(Array(1000).fill(1))), undefined, 1);
      const both = { 'grpc-encoding': 'gzip', 'grpc-accept-encoding': 'identity, gzip' };
      raw.call(1, infer, message, both);
      await raw.end(1);
      const answer = Buffer.concat(raw.of(1, frameTypes.data).map(({ payload }) => payload));
      expect(answer[0]).to.equal(1);
      expect(gunzipSync(answer.subarray(5)).length).to.be.greaterThan(4000);
      raw.call(3, infer, message, { 'grpc-encoding': 'gzip' });
      await raw.end(3);
      expect(raw.of(3, frameTypes.data)[0]?.payload[0], 'no encoding that a client does not take').to.equal(0);
      raw.socket.destroy();
    });

    it('a message that comes byte by byte, and several in one', async () => {
      await open();
      const raw = await Http2Client.open(rig.port);
      raw.call(1, infer);
      const message = grpcMessage(requestBytes([3, 4]));
      for (const [i, byte] of message.entries())
        raw.send(frame(frameTypes.data, i === message.length - 1 ? endStream : 0, 1, Buffer.from([byte])));
      await raw.end(1);
      const answer = Buffer.concat(raw.of(1, frameTypes.data).map(({ payload }) => payload));
      expect(answer.includes(Buffer.from(Float32Array.from([6, 8]).buffer))).to.equal(true);
      raw.call(3, '/inference.GRPCInferenceService/ModelStreamInfer', Buffer.concat(Array(10).fill(message)));
      await raw.end(3);
      expect(counted()).to.include({ received: 11, answered: 11 });
      raw.socket.destroy();
    });

    it('4,000 calls of one connection', async () => {
      await open();
      const raw = await Http2Client.open(rig.port);
      raw.send(frame(frameTypes.windowUpdate, 0, 0, Buffer.from([0x7f, 0, 0, 0])));
      const message = grpcMessage(requestBytes([1, 2]));
      for (let i = 0; i < 4_000; i += 50) {
        for (let k = i; k < i + 50; k++) raw.call(2 * k + 1, infer, message);
        raw.frames.length = 0; // of those before
        const ended = () => raw.frames.filter(({ flags, stream }) => stream > 0 && (flags & endStream) !== 0).length;
        await until('their ends', () => ended() === 50, { intervalMs: 1 });
      }
      expect(counted()).to.include({ received: 4_000, answered: 4_000 });
      raw.socket.destroy();
    });

    it('over TLS', async () => {
      const authority = new Authority();
      await open({ tls: authority.issue('server') });
      const secured = rig.client(grpc.credentials.createSsl(authority.cert), {
        'grpc.ssl_target_name_override': 'localhost',
      });
      expect(numbersIn((await secured.infer(doubleRequest([1, 2]))).value)).to.deep.equal([2, 4]);
    });

    it('bytes that it has taken and given are counted, also while the connection is open', async () => {
      await open();
      await client.infer(doubleRequest(Array(1000).fill(1)));
      await until('counts', () => {
        const { bytesReceived, bytesSent } = rig.worker.counts;
        return bytesReceived > 4000 && bytesSent > 4000;
      });
    });

    it('only gRPC, and leaves other requests to what serves HTTP', async () => {
      await open({
        onRequest: (stream) => {
          stream.respond({ ':status': 418 });
          stream.end();
        },
      });
      for (const headers of [{}, { 'content-type': 'application/grpc-web', ':method': 'POST' }]) {
        const session = connectHttp2(`http://127.0.0.1:${rig.port}`);
        const stream = session.request({ ':path': '/v2/health/live', ...headers });
        const [response] = (await once(stream, 'response')) as [Readonly<Record<string, unknown>>];
        session.destroy();
        expect(response[':status']).to.equal(418);
      }
    });
  });

  describe('a call', () => {
    it('that is no longer wanted gives up its place', async () => {
      await open();
      rig.worker.double.isHeld = true;
      const canceled = client.infer(doubleRequest([1, 2]), {}, {}, (call) => {
        void until('the run', () => rig.worker.double.runs > 0, { intervalMs: 1 }).then(() => call.cancel());
      });
      expect((await canceled).code).to.equal(status.CANCELLED);
      await until('that it is abandoned', () => counted()?.abandoned === 1);
      rig.worker.double.release();
      expect(numbersIn((await client.infer(doubleRequest([1, 2]))).value)).to.deep.equal([2, 4]);
      expect(counted()).to.include({ received: 2, answered: 1 });
    });

    it('is answered in the time that its metadata or its message gives it, or not at all', async () => {
      await open();
      rig.worker.double.isHeld = true;
      const raw = await Http2Client.open(rig.port);
      // Held by a run, the next ones wait in the queue.
      for (let stream = 1; stream < 20; stream += 2) raw.call(stream, infer, grpcMessage(requestBytes([1, 2])));
      await until('runs', () => rig.worker.double.runs > 0);
      const timely = doubleRequest([1, 2], { parameters: { timeout: { int64_param: 20_000 } } });
      const first = client.infer(timely);
      raw.call(101, infer, grpcMessage(requestBytes([1, 2])), { 'grpc-timeout': '20m' });
      expect(failureOf(await first)).to.deep.equal([status.DEADLINE_EXCEEDED, 'DEADLINE_EXCEEDED']);
      await raw.end(101);
      expect(counted()?.expired).to.equal(2);
      rig.worker.double.release();
      raw.socket.destroy();
    });

    it('that ends without a message, or has two, is refused', async () => {
      await open();
      const raw = await Http2Client.open(rig.port);
      raw.call(1, infer, Buffer.alloc(0));
      raw.call(3, live, Buffer.alloc(0));
      rig.worker.double.isHeld = true;
      const message = grpcMessage(requestBytes([1, 2]));
      raw.call(5, infer, Buffer.concat([message, message]));
      raw.call(7, infer, message.subarray(0, 20));
      for (const stream of [1, 3, 5, 7]) {
        const { type } = await raw.end(stream);
        expect(type, `stream ${stream}`).to.equal(frameTypes.headers);
        expect(raw.of(stream, frameTypes.data)).to.deep.equal([]);
      }
      await until('that it is abandoned', () => counted()?.abandoned === 1);
      raw.socket.destroy();
    });

    it('with a message that is too large is refused before the message has come', async () => {
      await open();
      const raw = await Http2Client.open(rig.port);
      raw.call(1, infer);
      raw.send(frame(frameTypes.data, 0, 1, grpcMessage(Buffer.alloc(0), (1 << 20) + 1)));
      const { type } = await raw.end(1);
      expect(type).to.equal(frameTypes.headers);
      await raw.frame('a reset', (one) => one.stream === 1 && one.type === frameTypes.rstStream);
      const [reset] = raw.of(1, frameTypes.rstStream);
      expect(reset?.payload.readUInt32BE(0), 'NO_ERROR').to.equal(0);
      raw.call(3, live, grpcMessage(Buffer.alloc(0)));
      await raw.end(3);
      raw.socket.destroy();
      const large = await client.infer({ model_name: 'echo', raw_input_contents: [Buffer.alloc(1 << 20)] });
      expect(failureOf(large)).to.deep.equal([status.RESOURCE_EXHAUSTED, 'PAYLOAD_TOO_LARGE']);
    });

    it('that unpacks to more than a message may have is refused, whether it is long or short', async () => {
      await open({ limits: { maxMessageBytes: 1 << 20 } });
      const packing = rig.client(undefined, {
        'grpc.default_compression_algorithm': grpc.compressionAlgorithms.gzip,
      });
      expect(failureOf(await packing.infer(Buffer.alloc((1 << 20) + 1)))).to.deep.equal([
        status.RESOURCE_EXHAUSTED,
        'PAYLOAD_TOO_LARGE',
      ]);
      const raw = await Http2Client.open(rig.port);
      let stream = 1;
      for (const [encoding, bomb] of [
        ['gzip', gzipSync(Buffer.alloc((1 << 20) + 1))],
        ['deflate', deflateSync(Buffer.alloc(20 << 20))],
        ['gzip', Buffer.from('this is not packed at all')],
      ] as const) {
        raw.call(stream, infer, grpcMessage(bomb, undefined, 1), { 'grpc-encoding': encoding });
        expect((await raw.end(stream)).type).to.equal(frameTypes.headers);
        stream += 2;
      }
      raw.call(stream, infer, grpcMessage(Buffer.alloc(9), undefined, 1));
      await raw.end(stream);
      raw.call(stream + 2, infer, grpcMessage(Buffer.alloc(9)), { 'grpc-encoding': 'snappy' });
      await raw.end(stream + 2);
      expect(counted('double')?.received).to.equal(0);
      expect(rig.worker.counted(/^malformed$/).malformed).to.be.greaterThan(1);
      raw.socket.destroy();
    });
  });

  describe('a stream of requests', () => {
    it('has its answers as they become ready, failures as messages, and ends when it is answered', async () => {
      await open();
      rig.worker.double.isHeld = true;
      const call = client.stream('ModelStreamInfer');
      const done = streamed(call);
      call.write(doubleRequest([1, 2], { id: 'slow' }));
      await until('the run', () => rig.worker.double.runs === 1);
      call.write({ ...doubleRequest([1, 2], { id: 'bad' }), model_name: 'none' });
      const wanted = { triton_enable_empty_final_response: { bool_param: true } };
      const element = Buffer.from([2, 0, 0, 0, 65, 66]);
      const inputs = [{ name: 'payload', datatype: 'BYTES', shape: [1] }];
      call.write({ model_name: 'echo', id: 'quick', inputs, raw_input_contents: [element], parameters: wanted });
      call.end();
      await until('the quick answer', () => counted('echo')?.answered === 1);
      rig.worker.double.release();
      const { messages, code } = await done;
      expect(code).to.equal(status.OK);
      const responses = messages.map(({ infer_response }) => infer_response as Plain);
      const parametersOf = (i: number) => responses[i]?.parameters as Readonly<Record<string, Plain>>;
      expect(responses.map(({ id }) => id)).to.deep.equal(['bad', 'quick', 'slow']);
      expect(messages[0]?.error_message).to.contain("unknown model: 'none'");
      expect(parametersOf(0).mltcp_reason).to.deep.include({ string_param: 'MODEL_NOT_FOUND' });
      expect(parametersOf(1).triton_final_response).to.deep.include({ bool_param: true });
      expect(parametersOf(2)).to.deep.equal({});
      expect(numbersIn(responses[2] as Plain)).to.deep.equal([2, 4]);
    });

    it('may hold more requests than a client may have in flight: they wait unread', async () => {
      await open({ limits: { maxCalls: 8 } });
      rig.worker.double.isHeld = true;
      const call = client.stream('ModelStreamInfer');
      const done = streamed(call);
      for (let i = 0; i < 200; i++) call.write(doubleRequest([i, i], { id: String(i) }));
      call.end();
      await until('eight', () => counted()?.received === 8);
      rig.worker.double.release();
      const { messages, code } = await done;
      expect(code).to.equal(status.OK);
      expect(messages.length).to.equal(200);
      expect(counted()).to.include({ received: 200, answered: 200 });
    });

    it('that its client drops gives up the places of its requests', async () => {
      await open();
      rig.worker.double.isHeld = true;
      const call = client.stream('ModelStreamInfer');
      const done = streamed(call);
      for (let i = 0; i < 5; i++) call.write(doubleRequest([i, i]));
      await until('five', () => counted()?.received === 5);
      call.cancel();
      expect((await done).code).to.equal(status.CANCELLED);
      await until('that they are abandoned', () => counted()?.abandoned === 5);
    });
  });

  describe('health', () => {
    const check = (service: string) => client.call('/grpc.health.v1.Health/Check', { service });

    it('is told of the server and of each service, to those as well who know no secret', async () => {
      await open({ secret: 'hunter2' });
      for (const service of ['', 'inference.GRPCInferenceService'])
        expect((await check(service)).value.status).to.equal('SERVING');
      expect((await check('none')).code).to.equal(status.NOT_FOUND);
      rig.worker.service.isReady = false;
      expect((await check('')).value.status).to.equal('NOT_SERVING');
    });

    it('is watched until the server drains', async () => {
      await open();
      const call = client.stream('/grpc.health.v1.Health/Watch');
      const told: unknown[] = [];
      call.on('data', (message: Plain) => told.push(message.status));
      const done = streamed(call);
      call.end({ service: '' });
      await until('that it serves', () => told.length === 1);
      rig.drain();
      expect((await done).code).to.equal(status.UNAVAILABLE);
      expect(told).to.deep.equal(['SERVING', 'NOT_SERVING']);
    });
  });

  it('tells a tool what it speaks, as completely as the .proto files', async () => {
    await open();
    const call = client.stream('/grpc.reflection.v1.ServerReflection/ServerReflectionInfo');
    const done = streamed(call);
    call.write({ list_services: '' });
    call.write({ file_containing_symbol: 'inference.GRPCInferenceService.ModelInfer' });
    call.write({ file_by_filename: 'health.proto' });
    call.write({ file_containing_symbol: 'none' });
    call.end();
    const { messages } = await done;
    const [list, inference, health, none] = messages as [Plain, Plain, Plain, Plain];
    const services = (list.list_services_response as { readonly service: readonly Plain[] }).service;
    expect(services.map(({ name }) => name)).to.have.members([
      'inference.GRPCInferenceService',
      'grpc.health.v1.Health',
      'grpc.reflection.v1.ServerReflection',
      'grpc.reflection.v1alpha.ServerReflection',
    ]);
    expect((none.error_response as Plain).error_code).to.equal(status.NOT_FOUND);
    const files = [inference, health].flatMap(
      ({ file_descriptor_response }) =>
        (file_descriptor_response as { file_descriptor_proto: Buffer[] }).file_descriptor_proto,
    );
    // What a tool does with it: types from what came, and nothing else.
    const file = files.map((bytes) =>
      (descriptor as unknown as { FileDescriptorProto: protobuf.Type }).FileDescriptorProto.decode(bytes),
    );
    const fromDescriptor = (protobuf.Root as unknown as { fromDescriptor(set: unknown): protobuf.Root }).fromDescriptor;
    const root = fromDescriptor({ file }).resolveAll();
    const type = root.lookupType('inference.ModelInferRequest');
    const bytes = Buffer.from(type.encode(type.fromObject({ modelName: 'none' })).finish());
    expect((await client.infer(bytes)).reason).to.equal('MODEL_NOT_FOUND');
    expect(root.lookupService('inference.GRPCInferenceService').methodsArray.length).to.equal(14);
  });

  describe('a drain', () => {
    it('fails no call, whenever it comes', async () => {
      await open();
      let isDrained = false;
      const outcomes: Outcome[] = [];
      const callers = Array.from({ length: 16 }, async () => {
        for (let left = 20; left > 0; ) {
          outcomes.push(await client.infer(doubleRequest([1, 2])));
          if (outcomes.length > 500 && !isDrained) {
            isDrained = true;
            for (const connection of rig.connections) connection.drain();
          }
          if (isDrained) left--;
        }
      });
      await Promise.all(callers);
      expect(outcomes.filter(({ code }) => code !== status.OK).map(({ details }) => details)).to.deep.equal([]);
      expect(rig.worker.counted(/^closedByDrain$/)).to.deep.equal({ closedByDrain: 1 });
    });

    it('waits for what is in flight, and ends streams with the reason', async () => {
      await open();
      rig.worker.double.isHeld = true;
      const call = client.stream('ModelStreamInfer');
      const done = streamed(call);
      call.write(doubleRequest([1, 2]));
      const single = client.infer(doubleRequest([3, 4]));
      await until('both', () => counted()?.received === 2);
      rig.drain();
      rig.worker.double.release();
      const { messages, code } = await done;
      expect(code).to.equal(status.UNAVAILABLE);
      expect(messages.length).to.equal(1);
      expect(numbersIn((await single).value)).to.deep.equal([6, 8]);
      await until('the end', () => rig.connections.size === 0);
      expect(closedBy()).to.deep.equal({ closedByDrain: 1 });
    });

    it('does not wait long for a client that keeps its side open', async () => {
      await open();
      const raw = await Http2Client.open(rig.port);
      raw.socket.removeAllListeners('end');
      raw.call(1, live, grpcMessage(Buffer.alloc(0)));
      await raw.end(1);
      rig.drain();
      await until('the end', () => rig.connections.size === 0);
    });
  });

  describe('a client', () => {
    it('needs the secret for all but health', async () => {
      await open({ secret: 'hunter2' });
      const ask = (authorization?: string) =>
        client.infer(doubleRequest([1, 2]), authorization === undefined ? {} : { authorization });
      for (const wrong of [undefined, 'hunter2', 'Bearer hunter', 'Basic hunter2'])
        expect(failureOf(await ask(wrong)), wrong).to.deep.equal([status.UNAUTHENTICATED, 'WRONG_SECRET']);
      expect((await ask('Bearer hunter2')).code).to.equal(status.OK);
      expect((await client.call('ServerLive', {})).code).to.equal(status.OK);
      expect((await client.call('ServerMetadata', {})).code).to.equal(status.UNAUTHENTICATED);
      expect(counted()?.received).to.equal(1);
    });

    it('may show a secret of any letters', async () => {
      await open({ secret: 'pässwört' });
      const raw = await Http2Client.open(rig.port);
      raw.call(1, infer, grpcMessage(requestBytes([1, 2])), { authorization: 'Bearer pässwört' });
      await raw.end(1);
      expect(counted()?.answered).to.equal(1);
      raw.socket.destroy();
    });

    it('may ask whether the server is there as often as it likes', async () => {
      await open();
      const raw = await Http2Client.open(rig.port);
      for (let i = 1; i <= 2000; i++) {
        raw.send(frame(frameTypes.ping, 0, 0, Buffer.alloc(8, i)));
        if (i % 100 === 0) await until('answers', () => raw.of(0, frameTypes.ping).length === i, { intervalMs: 1 });
      }
      raw.call(1, live, grpcMessage(Buffer.alloc(0)));
      await raw.end(1);
      expect(raw.isClosed).to.equal(false);
      raw.socket.destroy();
    });

    it('that sends a message too slowly is refused, and its other calls are not', async () => {
      await open({ limits: { payloadTimeoutMs: 50 } });
      const raw = await Http2Client.open(rig.port);
      const idle = client.stream('ModelStreamInfer');
      const done = streamed(idle);
      raw.call(1, infer);
      raw.send(frame(frameTypes.data, 0, 1, grpcMessage(requestBytes([1, 2])).subarray(0, 30)));
      raw.call(3, infer); // and says nothing
      for (const stream of [1, 3]) expect((await raw.end(stream)).type).to.equal(frameTypes.headers);
      raw.call(5, infer, grpcMessage(requestBytes([1, 2])));
      await raw.end(5);
      expect(raw.of(5, frameTypes.data).length).to.equal(1);
      idle.write(doubleRequest([1, 2]));
      idle.end();
      expect((await done).messages.length).to.equal(1);
      expect(rig.worker.counted(/^malformed$/)).to.deep.equal({ malformed: 2 });
      raw.socket.destroy();
    });

    it('that takes nothing of its answers is cut', async () => {
      await open({ limits: { writeTimeoutMs: 100 } });
      const initialWindow = 4;
      const raw = await Http2Client.open(rig.port, [[initialWindow, 0]]);
      raw.call(1, infer, grpcMessage(requestBytes([1, 2])));
      await raw.closed();
      await until('the count', () => closedBy().closedByWriteTimeout === 1);
    });

    it('that takes its answers may leave a stream quiet for as long as it likes', async () => {
      await open({ limits: { writeTimeoutMs: 30 } });
      const call = client.stream('ModelStreamInfer');
      const done = streamed(call);
      call.write(doubleRequest([1, 2]));
      await once(call, 'data');
      const { activeAt } = [...rig.connections][0] as { readonly activeAt: number };
      await until('a long time', () => performance.now() - activeAt > 150);
      call.write(doubleRequest([1, 2]));
      call.end();
      expect(await done).to.deep.include({ code: status.OK });
    });

    it('may have many large answers on their way', async () => {
      await open({ limits: { maxMessageBytes: 2 << 20, writeTimeoutMs: 4000 } });
      const element = Buffer.alloc((1 << 20) + 4, 7);
      element.writeUInt32LE(1 << 20);
      const request = {
        model_name: 'echo',
        inputs: [{ name: 'payload', datatype: 'BYTES', shape: [1] }],
        raw_input_contents: [element],
      };
      const outcomes = await Promise.all(Array.from({ length: 48 }, () => client.infer(request)));
      for (const { value, details } of outcomes) {
        const [raw] = (value.raw_output_contents ?? []) as readonly Buffer[];
        expect(raw?.equals(element), details).to.equal(true);
      }
    });

    it('has no more calls open than it may', async () => {
      await open({ limits: { maxCalls: 4 } });
      const unaware = await Http2Client.open(rig.port, [], false);
      for (let stream = 1; stream <= 11; stream += 2) unaware.call(stream, infer);
      for (const stream of [9, 11]) {
        const refused = await unaware.end(stream);
        expect(refused.payload.readUInt32BE(0), 'REFUSED_STREAM').to.equal(7);
      }
      expect(unaware.isClosed).to.equal(false);
      unaware.socket.destroy();
      const knowing = await Http2Client.open(rig.port);
      for (let stream = 1; stream <= 11; stream += 2) knowing.call(stream, infer);
      await knowing.closed();
      await until('the count', () => closedBy().closedByProtocol === 1);
    });

    it('that is silent is asked for a sign of life, and cut without one', async () => {
      await open({ limits: { payloadTimeoutMs: 50 } });
      const raw = await Http2Client.open(rig.port);
      const { payload } = await raw.frame('a ping', ({ type }) => type === frameTypes.ping);
      raw.send(frame(frameTypes.ping, 1, 0, payload));
      await until('another', () => raw.of(0, frameTypes.ping).length > 1);
      await raw.closed();
      await until('the count', () => closedBy().closedByKeepAlive === 1);
      expect((await client.infer(doubleRequest([1, 2]))).code).to.equal(status.OK);
    });

    it('that breaks the protocol and leaves gives up its place', async () => {
      await open({ limits: { payloadTimeoutMs: 3_600_000 } });
      for (const broken of [frame(frameTypes.data, 0, 0, Buffer.from('abc')), frame(frameTypes.rstStream, 0, 9)]) {
        const raw = await Http2Client.open(rig.port);
        raw.send(broken);
        await raw.goaway();
        raw.socket.destroy();
        await until('that it is gone', () => rig.connections.size === 0);
      }
    });

    it('that is idle for too long is asked to leave', async () => {
      await open({ limits: { idleTimeoutMs: 50 } });
      const raw = await Http2Client.open(rig.port);
      expect(await raw.goaway()).to.equal(0);
      await raw.closed();
      await until('the count', () => closedBy().closedByIdleTimeout === 1);
    });

    it('holds no more memory with half messages than there is, and others are served', async () => {
      await open({ maxBufferedBytes: 1 << 20 });
      const raw = await Http2Client.open(rig.port);
      for (let stream = 1; stream < 127; stream += 2) {
        raw.call(stream, infer);
        raw.send(frame(frameTypes.data, 0, stream, grpcMessage(Buffer.alloc(16_000), 500_000)));
        for (let i = 0; i < 3; i++) raw.send(frame(frameTypes.data, 0, stream, Buffer.alloc(16_000)));
      }
      await until('a pause', () => rig.worker.counts.pausedByMemory > 0);
      for (let i = 0; i < 20; i++)
        expect(numbersIn((await client.infer(doubleRequest([1, 2]))).value)).to.deep.equal([2, 4]);
      raw.socket.destroy();
      await until('that it is gone', () => rig.connections.size === 1);
      expect((await client.infer(doubleRequest([1, 2]))).code).to.equal(status.OK);
    });

    it('that speaks no HTTP/2 is closed', async () => {
      await open();
      const raw = await Http2Client.connect(rig.port);
      raw.send(Buffer.from('GET / HTTP/1.1\r\nHost: nobody\r\n\r\n'));
      await raw.closed();
      await until('the count', () => closedBy().closedByProtocol === 1);
    });
  });

  describe('ends a connection that', () => {
    const attack = async (
      run: (raw: Http2Client) => void,
      options: GrpcRigOptions = {},
      expected = /^closedByProtocol$/,
    ): Promise<void> => {
      await open(options);
      const raw = await Http2Client.open(rig.port);
      run(raw);
      await raw.closed();
      await until('the count', () => Object.keys(rig.worker.counted(expected)).length > 0);
      expect(numbersIn((await client.infer(doubleRequest([1, 2]))).value), 'others').to.deep.equal([2, 4]);
    };

    it('opens calls and resets them at once', () =>
      attack((raw) => {
        for (let stream = 1; stream < 8000; stream += 2) {
          raw.call(stream, infer);
          raw.send(frame(frameTypes.rstStream, 0, stream, Buffer.from([0, 0, 0, 8])));
        }
      }));

    it('never ends its headers', () =>
      attack((raw) => {
        raw.send(frame(frameTypes.headers, 0, 1, callHeaders(infer)));
        for (let i = 0; i < 100; i++) raw.send(frame(frameTypes.continuation, 0, 1, field(`x-${i}`, 'x'.repeat(50))));
      }));

    it('sends frames of no data without end', () =>
      attack((raw) => {
        raw.call(1, infer);
        for (let i = 0; i < 5000; i++) raw.send(frame(frameTypes.data, 0, 1));
      }));

    it('makes settings of nothing but settings', () =>
      attack(
        (raw) => {
          const settings = Buffer.alloc(6 * 100);
          for (let i = 0; i < 100; i++) settings.writeUInt16BE(0x100 + i, 6 * i);
          raw.send(frame(frameTypes.settings, 0, 0, settings));
        },
        { limits: { payloadTimeoutMs: 50 } },
        /^closedBy(Protocol|KeepAlive)$/, // newer versions of Node close it themselves
      ));

    it('asks for pings and takes none', () =>
      attack((raw) => {
        raw.socket.pause();
        const pings = Buffer.concat(
          Array.from({ length: 20_000 }, () => frame(frameTypes.ping, 0, 0, Buffer.alloc(8))),
        );
        for (let i = 0; i < 60; i++) raw.socket.write(pings);
        raw.socket.once('error', () => raw.socket.destroy());
        void until('the end at the other side', () => rig.connections.size === 0).then(() => raw.socket.destroy());
      }));
  });

  it('refuses headers that are larger than they may be', async () => {
    await open();
    const raw = await Http2Client.open(rig.port);
    const large = { 'x-large': 'x'.repeat(8000), 'x-larger': 'x'.repeat(8000), 'x-largest': 'x'.repeat(2000) };
    const block = callHeaders(infer, large);
    raw.send(
      frame(frameTypes.headers, 0, 3, block.subarray(0, 16_000)),
      frame(frameTypes.continuation, endHeaders, 3, block.subarray(16_000)),
    );
    expect((await raw.end(3)).type).to.equal(frameTypes.rstStream);
    raw.socket.destroy();
  });
});
