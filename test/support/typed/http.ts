// HTTP/1.1 on connections that are kept, in JSON or with tensors in binary form.

import { Agent, type IncomingHttpHeaders, request as sendRequest } from 'node:http';
import { Lost, Refused, type Request, type Tensor, type TypedClient } from './client.js';

interface JsonTensor {
  readonly name: string;
  readonly datatype: string;
  readonly shape: readonly number[];
  readonly data?: readonly unknown[];
  readonly parameters?: { readonly binary_data_size?: number };
}

interface Encoded {
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Buffer;
}

interface Received {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: Buffer;
}

type Numbers = Float32Array | Float64Array | Int32Array;
const arrays = { FP32: Float32Array, FP64: Float64Array, INT32: Int32Array } as const;

function arrayOf(datatype: string): (typeof arrays)[keyof typeof arrays] {
  const array = arrays[datatype as keyof typeof arrays];
  if (array === undefined) throw new Error(`the test knows no ${datatype} in JSON`);
  return array;
}

/** Values as JSON has them. Of texts, those that are UTF-8. */
function valuesOf({ datatype, data }: Tensor): readonly unknown[] {
  if (datatype !== 'BYTES') {
    const copy = Uint8Array.from(data).buffer;
    return Array.from(new (arrayOf(datatype))(copy) as Numbers, (value) => (Object.is(value, -0) ? minusZero : value));
  }
  const texts: string[] = [];
  for (let at = 0; at < data.length; ) {
    const end = at + 4 + data.readUInt32LE(at);
    texts.push(data.toString('utf8', at + 4, end));
    at = end;
  }
  return texts;
}

/** JSON.stringify would write 0. */
const minusZero = 'minus zero';
const withMinusZeros = (text: string): string => text.replaceAll(`"${minusZero}"`, '-0.0');

function bytesOf({ datatype, data = [] }: JsonTensor): Buffer {
  const flat = data.flat(Number.POSITIVE_INFINITY);
  if (datatype !== 'BYTES') return Buffer.from(arrayOf(datatype).from(flat as number[]).buffer);
  return Buffer.concat(
    (flat as string[]).flatMap((text) => {
      const length = Buffer.alloc(4);
      length.writeUInt32LE(Buffer.byteLength(text));
      return [length, Buffer.from(text)];
    }),
  );
}

export class HttpClient implements TypedClient {
  readonly #port: number;
  readonly #isBinary: boolean;
  readonly #agent = new Agent({ keepAlive: true, noDelay: true });

  constructor(port: number, isBinary: boolean) {
    this.#port = port;
    this.#isBinary = isBinary;
  }

  async ask(request: Request): Promise<readonly Tensor[]> {
    const { status, headers, body } = await this.#post(`/v2/models/${request.model}/infer`, this.#encode(request));
    const jsonLength = Number(headers['inference-header-content-length'] ?? body.length);
    const answer = JSON.parse(body.toString('utf8', 0, jsonLength)) as {
      outputs: readonly JsonTensor[];
      error?: string;
    };
    if (status !== 200)
      throw new Refused(`http ${status}`, answer.error ?? '', Number(headers['retry-after'] ?? 0) * 1000);
    let at = jsonLength;
    return answer.outputs.map((output) => {
      const { name, datatype, shape, parameters } = output;
      const size = parameters?.binary_data_size;
      const data = size === undefined ? bytesOf(output) : body.subarray(at, at + size);
      at += size ?? 0;
      return { name, datatype, shape, data };
    });
  }

  close(): void {
    this.#agent.destroy();
  }

  #encode({ inputs }: Request): Encoded {
    if (!this.#isBinary) {
      const told = inputs.map((input) => ({ ...described(input), data: valuesOf(input) }));
      return {
        headers: { 'content-type': 'application/json' },
        body: Buffer.from(withMinusZeros(JSON.stringify({ inputs: told }))),
      };
    }
    const told = inputs.map((input) => ({ ...described(input), parameters: { binary_data_size: input.data.length } }));
    const json = Buffer.from(JSON.stringify({ inputs: told, parameters: { binary_data_output: true } }));
    const headers = { 'inference-header-content-length': String(json.length) };
    return { headers, body: Buffer.concat([json, ...inputs.map(({ data }) => data)]) };
  }

  #post(path: string, { headers, body }: Encoded): Promise<Received> {
    return new Promise((resolve, reject) => {
      const lost = (error: Error): void => reject(new Lost(error.message, { cause: error }));
      const options = { host: '127.0.0.1', port: this.#port, path, method: 'POST', agent: this.#agent };
      const sent = sendRequest({ ...options, headers: { ...headers, 'content-length': body.length } }, (response) => {
        const chunks: Buffer[] = [];
        response.on('error', lost);
        response.on('data', (chunk: Buffer) => chunks.push(chunk));
        response.on('end', () =>
          resolve({ status: response.statusCode ?? 0, headers: response.headers, body: Buffer.concat(chunks) }),
        );
      });
      sent.on('error', lost);
      sent.end(body);
    });
  }
}

const described = ({ name, datatype, shape }: Tensor): Omit<JsonTensor, 'data'> => ({ name, datatype, shape });
