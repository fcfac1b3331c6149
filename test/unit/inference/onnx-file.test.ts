import { closeSync, ftruncateSync, mkdirSync, openSync, truncateSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import fc from 'fast-check';
import { FileBytes, holdsText, MalformedFile } from '#src/inference/backends/onnx-file/bytes.js';
import { type OpenOptions, openModelFile } from '#src/inference/backends/onnx-file/open.js';
import { field, header, message } from '#src/inference/backends/onnx-file/protobuf.js';
import { readModel } from '#src/inference/backends/onnx-file/read.js';
import { temporaryFolder } from '../../support/folder.js';
import {
  type ElementType,
  elementTypes,
  type GraphSpec,
  type TensorSpec,
  writeOnnx,
} from '../../support/onnx-writer.js';
import { root } from '../../support/processes.js';

const folder = temporaryFolder();
let files = 0;
function write(bytes: Uint8Array | string, name = `${files++}.onnx`): string {
  const path = join(folder, name);
  writeFileSync(path, bytes);
  return path;
}

function refusal(bytes: Uint8Array | string, options?: OpenOptions): string {
  try {
    openModelFile(write(bytes), options);
  } catch (error) {
    if (!(error instanceof Error)) throw error;
    return error.message;
  }
  return 'it was opened';
}

const x: TensorSpec = { name: 'x', dtype: 'float32', shape: ['n', 3] };

/** x float32[n, 3] → its softmax as maps, with a ZipMap of these attributes. */
const zipped = (
  keys: 'int64' | 'string',
  attributes: Readonly<Record<string, readonly number[] | readonly string[]>>,
): GraphSpec => ({
  inputs: [x],
  outputs: [{ name: 'scores', keys }],
  nodes: [
    { op: 'Softmax', inputs: ['x'], outputs: ['inner'], attributes: { axis: 1 } },
    { op: 'ZipMap', domain: 'ai.onnx.ml', inputs: ['inner'], outputs: ['scores'], attributes },
  ],
});
const animals = zipped('string', { classlabels_strings: ['cat', 'ant', 'né'] });

/** A model with one input and one output of these types, a TypeProto each. */
const withTypes = (input: Uint8Array, output: Uint8Array): Buffer =>
  message(
    field(1, 8),
    field(
      7,
      message(
        field(11, message(field(1, 'in'), field(2, input))),
        field(12, message(field(1, 'out'), field(2, output))),
      ),
    ),
    field(8, message(field(2, 17))),
  );
const tensorType = (code: number, number = 1): Buffer =>
  field(number, message(field(1, code), field(2, message(field(1, field(2, 'n')), field(1, field(1, 4))))));
const float32 = tensorType(1);
const sequenceOf = (type: Uint8Array): Buffer => field(4, field(1, type));
const optionalOf = (type: Uint8Array): Buffer => field(9, field(1, type));
const mapOf = (key: number, type: Uint8Array): Buffer => field(5, message(field(1, key), field(2, type)));

describe('a model file', () => {
  it('says what goes in and comes out, with the names of dimensions', () => {
    const dim = fc.oneof(fc.integer({ min: 0, max: 2 ** 40 }), fc.constantFrom('n', 'length', ''));
    const tensor = fc.record({
      name: fc.string({ minLength: 1 }),
      dtype: fc.constantFrom(...(Object.keys(elementTypes) as ElementType[])),
      shape: fc.option(fc.array(dim, { maxLength: 5 })),
    });
    const property = fc.property(fc.array(tensor), fc.array(tensor), (inputs, outputs) => {
      const declared = openModelFile(write(writeOnnx({ inputs, outputs, nodes: [] }), 'declared.onnx')).declared;
      const expected = (specs: readonly TensorSpec[]) =>
        specs.map(({ name, dtype, shape }) => ({
          name,
          type: { kind: 'tensor', elementType: dtype, dims: shape?.map((size) => (size === '' ? null : size)) ?? null },
        }));
      expect(declared?.inputs).to.deep.equal(expected(inputs));
      expect(declared?.outputs).to.deep.equal(expected(outputs));
    });
    fc.assert(property, { numRuns: 200 });
  });

  it('without ZipMap is loaded by its path, and never changed', () => {
    const path = `${root}config/models/digits/model.onnx`;
    expect(openModelFile(path)).to.deep.include({ source: path, labels: new Map(), notes: [] });
  });

  it('takes no input that the model itself has a value for', () => {
    const w: TensorSpec = { name: 'w', dtype: 'float32', shape: [3] };
    const constants = [{ name: 'w', shape: [3], values: new Float32Array(3) }];
    const graph = { ...animals, inputs: [x, w], constants };
    expect(openModelFile(write(writeOnnx(graph))).declared?.inputs.map(({ name }) => name)).to.deep.equal(['x']);
  });

  it('of 2 GB is described by reading less than a thousandth of it', () => {
    const path = join(folder, 'large.onnx');
    const weights = 1_900_000_000;
    const [, tail] = [
      0,
      message(
        field(11, message(field(1, 'x'), field(2, float32))),
        field(12, message(field(1, 'y'), field(2, float32))),
      ),
    ];
    const constant = message(field(2, 1), field(8, 'w'), header(9, weights));
    const graph = message(field(2, 'g'), header(5, constant.length + weights), constant);
    const head = message(field(1, 8), header(7, graph.length + weights + tail.length), graph);
    const descriptor = openSync(path, 'w');
    writeSync(descriptor, head);
    ftruncateSync(descriptor, head.length + weights); // takes no room on the disk
    writeSync(descriptor, tail, 0, tail.length, head.length + weights);
    closeSync(descriptor);
    const source = new FileBytes(path);
    expect(readModel(source)).to.deep.include({ irVersion: 8 });
    expect(source.bytesRead).to.be.lessThan(weights / 1000);
    source.close();
    expect(openModelFile(path).source).to.equal(path);
    truncateSync(path, 0);
  });

  it('that ends too early, anywhere, is refused as not complete', () => {
    const whole = writeOnnx(animals);
    for (let length = 1; length < whole.length; length++) {
      const said = refusal(whole.subarray(0, length));
      // Cut between two fields behind the graph it is a whole message, which only lacks its opsets.
      if (said !== 'it was opened')
        expect(said, `${length} bytes`).to.match(/is no ONNX model, or not a complete one \(\d+ bytes\)/);
      else expect(length).to.be.greaterThan(whole.length - 30);
    }
  });

  it('of any bytes is opened or refused with a reason, and never read without an end', () => {
    const whole = writeOnnx({
      ...animals,
      constants: [{ name: 'w', shape: [2], values: new Float32Array(2), externalFile: 'w' }],
    });
    const zip = writeOnnx(animals);
    const change = fc.record({ at: fc.nat(whole.length - 1), byte: fc.nat(255) });
    const bytes = fc.oneof(
      fc.uint8Array({ maxLength: 200 }),
      fc.tuple(fc.constantFrom(whole, zip), fc.array(change, { minLength: 1, maxLength: 6 })).map(([from, changes]) => {
        const copy = Buffer.from(from);
        for (const { at, byte } of changes) copy[at % copy.length] = byte;
        return copy;
      }),
    );
    fc.assert(
      fc.property(bytes, (content) => {
        const path = write(content, 'any.onnx');
        const source = new FileBytes(path);
        try {
          readModel(source);
        } catch (error) {
          expect(error).to.be.instanceOf(MalformedFile);
        } finally {
          source.close();
        }
        expect(source.bytesRead).to.be.at.most(40 * (content.length + 1));
        try {
          openModelFile(path);
        } catch (error) {
          expect((error as Error).message).to.match(/^(.*any\.onnx|the (input|output) )/s);
        }
      }),
      { numRuns: 500 },
    );
  });
});

describe('a file that cannot be served is refused with what mends it', () => {
  const inputs: Readonly<Record<string, readonly [Uint8Array, RegExp]>> = {
    bfloat16: [
      tensorType(16),
      /input in is bfloat16\[n,4\], .* cannot take: export the model as float32 or float16 .*model\.float\(\)/,
    ],
    float8: [tensorType(17), /input in is float8e4m3fn\[n,4\], .*: export the model as float32 or float16/],
    float4: [tensorType(23), /input in is float4e2m1\[n,4\], .*: export the model as float32 or float16/],
    complex: [tensorType(14), /input in is complex64\[n,4\], .*torch\.view_as_real/],
    int4: [tensorType(22), /input in is int4\[n,4\], .*let the model take int8 and cast it inside/],
    uint4: [tensorType(21), /input in is uint4\[n,4\], .*let the model take uint8 and cast it inside/],
    'an element type of a later ONNX': [
      tensorType(99),
      /input in is type 99\[n,4\], .*export the model with another type/,
    ],
    sequence: [sequenceOf(float32), /input in is sequence\(float32\[n,4\]\), .*x\.unbind\(0\)/],
    map: [mapOf(8, float32), /input in is map\(string, float32\[n,4\]\), .*DictVectorizer/],
    optional: [optionalOf(float32), /input in is optional\(float32\[n,4\]\), .*OptionalGetElement/],
    sparse: [tensorType(1, 8), /input in is sparse float32\[n,4\], .*x\.toarray\(\)/],
  };
  for (const [name, [type, says]] of Object.entries(inputs)) {
    it(`for an input of ${name}`, () => expect(refusal(withTypes(type, float32))).to.match(says));
    it(`for an output of ${name}`, () =>
      expect(refusal(withTypes(float32, type))).to.match(
        /output out is .*, which ONNX Runtime for Node.js cannot return.*: \w/,
      ));
  }

  it('but may have an output that is no tensor, when no reply has it', () => {
    const model = withTypes(float32, sequenceOf(float32));
    expect(refusal(model, { returned: new Set(['out']) })).to.match(/torch\.stack\(xs\)/);
    expect(refusal(model, { returned: new Set() })).to.equal('it was opened');
    // The runtime refuses a model with such a tensor, returned or not.
    expect(refusal(withTypes(float32, tensorType(22)), { returned: new Set() })).to.match(/output out is int4/);
  });

  const padded = (...bytes: readonly (string | readonly number[])[]): Buffer =>
    Buffer.concat([
      ...bytes.map((part) => (typeof part === 'string' ? Buffer.from(part) : Buffer.from(part))),
      Buffer.alloc(600),
    ]);
  const looks: Readonly<Record<string, readonly [Uint8Array | string, RegExp]>> = {
    'an empty file': ['', /is no ONNX model but empty: copy or download it again/],
    'a pointer of Git LFS': [
      'version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12\n',
      /pointer of Git LFS.*git lfs pull/,
    ],
    'a web page': ['\n<!DOCTYPE html><html><title>404</title>', /a web page.*download the file itself/],
    'an OpenVINO model': ['<?xml version="1.0"?>\n<net name="m" version="11">', /XML/],
    'an XGBoost model': ['{"learner":{"attributes":{}}}', /JSON \(an XGBoost model/],
    'a LightGBM model': ['tree\nversion=v4\n', /a LightGBM model: .*onnxmltools/],
    'a CatBoost model': [padded('CBM1'), /a CatBoost model: .*format="onnx"/],
    'a PyTorch file': [
      padded('PK\x03\x04', new Array(22).fill(0), [16, 0, 0, 0], 'archive/data.pkl'),
      /a PyTorch file.*torch\.onnx\.export/,
    ],
    'another zip archive': [
      padded('PK\x03\x04', new Array(22).fill(0), [5, 0, 0, 0], 'a.txt'),
      /a zip archive: unpack it/,
    ],
    'an old PyTorch file': [padded([0x80, 0x02, 0x8a]), /a Python pickle.*torch\.onnx\.export/],
    'a pickle of scikit-learn': [padded([0x80, 0x04, 0x95]), /a Python pickle.*skl2onnx/],
    'a gzip file': [padded([0x1f, 0x8b, 8]), /a gzip file: unpack it/],
    'a TensorFlow Lite model': [padded([28, 0, 0, 0], 'TFL3'), /TensorFlow Lite.*tf2onnx/],
    'a Keras model': [padded([0x89], 'HDF\r\n'), /HDF5.*tf2onnx/],
    'a safetensors file': [
      padded([80, 0, 0, 0, 0, 0, 0, 0], '{"w":{"dtype":"F32"}}'),
      /safetensors.*torch\.onnx\.export/,
    ],
    'a tar archive': [
      Buffer.concat([Buffer.alloc(257), Buffer.from('ustar\x0000'), Buffer.alloc(300)]),
      /a tar archive: unpack it/,
    ],
    text: ['hello, world', /is no ONNX model, or not a complete one/],
    'another protobuf': [message(field(1, 1), field(2, 'a'), field(3, 'b')), /no ONNX model.*it has no graph/],
  };
  for (const [name, [bytes, says]] of Object.entries(looks))
    it(`for ${name} in its place`, () => expect(refusal(bytes)).to.match(says));

  it('for a folder', () => {
    const path = join(folder, 'folder');
    mkdirSync(path);
    expect(() => openModelFile(path)).to.throw('is no file');
  });

  it('for weights in another file that is missing or too short, which it names', () => {
    const constants = [{ name: 'k', shape: [1], values: new Float32Array(1), externalFile: 'weights.bin' }];
    const model = writeOnnx({ inputs: [x], outputs: [], nodes: [], constants });
    expect(refusal(model)).to.match(
      /keeps weights in the file weights\.bin, and there is none at \/.*weights\.bin: put it there/,
    );
    write(Buffer.alloc(4), 'weights.bin');
    expect(refusal(model)).to.equal('it was opened');
    const entry = (key: string, value: string) => field(13, message(field(1, key), field(2, value)));
    const constant = message(
      entry('location', 'weights.bin'),
      entry('offset', '4'),
      entry('length', '8'),
      field(14, 1),
      field(8, 'k'),
    );
    expect(refusal(message(field(1, 8), field(7, field(5, constant))))).to.match(
      /has 4 bytes, and .* keeps weights in its first 12/,
    );
  });
});

describe('ZipMap', () => {
  const open = (graph: GraphSpec, options?: OpenOptions) => openModelFile(write(writeOnnx(graph)), options);

  it('is taken out: the output is the tensor below it, under its own name, and its columns are named', () => {
    const { source, declared, labels, notes } = open(animals);
    expect(source).to.be.instanceOf(Uint8Array);
    expect(declared?.outputs).to.deep.equal([
      { name: 'scores', type: { kind: 'tensor', elementType: 'float32', dims: [null, 3] } },
    ]);
    expect([...labels]).to.deep.equal([['scores', ['cat', 'ant', 'né']]]);
    expect(notes).to.deep.equal([
      'the output scores is the tensor of probabilities below ZipMap, in place of its maps; its columns are the classes cat, ant, né',
    ]);
    const again = openModelFile(write(source as Uint8Array));
    expect(again.source).to.be.a('string');
    expect(again.declared?.outputs).to.deep.equal(declared?.outputs);
  });

  it('names whole numbers as classes, of any size', () => {
    const classes = [3, -1, 0, 2 ** 53 - 1];
    expect([...open(zipped('int64', { classlabels_int64s: classes })).labels.values()]).to.deep.equal([classes]);
  });

  it('changes the node and the type of the output, and no other byte of the file', () => {
    const constants = [{ name: 'w', shape: [1000], values: Float32Array.from({ length: 1000 }, (_, i) => i) }];
    const [softmax] = animals.nodes as [GraphSpec['nodes'][0]];
    const without: GraphSpec = {
      ...animals,
      outputs: [{ name: 'scores', dtype: 'float32', shape: ['', 3] }],
      nodes: [softmax, { op: 'Identity', inputs: ['inner'], outputs: ['scores'] }],
    };
    const { source } = open({ ...animals, constants });
    expect(writeOnnx({ ...without, constants }).equals(source as Uint8Array)).to.equal(true);
  });

  const refuses = (graph: GraphSpec, says: RegExp, options?: OpenOptions) =>
    expect(refusal(writeOnnx(graph), options)).to.match(says);
  const mend =
    /the output scores is a map .*, and it cannot be turned into a tensor here, as .*: take ZipMap out of the file: `python3 -c/s;

  it('is refused, with the Python that mends it, where the weights lie in another file', () => {
    write(Buffer.alloc(4), 'weights.bin');
    const constants = [{ name: 'w', shape: [1], values: new Float32Array(1), externalFile: 'weights.bin' }];
    refuses({ ...animals, constants }, mend);
    refuses({ ...animals, constants }, /the model keeps its weights in other files/);
  });

  it('is refused in a file that is too large to be in memory twice', () =>
    refuses(animals, /the file is larger than 100 bytes/, { maxChangedBytes: 100 }));

  it('is refused where another node takes the maps, in the graph or in one inside of it', () => {
    const taker = { op: 'SequenceLength', inputs: ['scores'], outputs: ['count'] };
    refuses(
      { ...animals, nodes: [...animals.nodes, taker] },
      /as a node SequenceLength takes them too: take ZipMap out/,
    );
    const body: GraphSpec = { inputs: [], outputs: [{ name: 'count', dtype: 'int64', shape: [] }], nodes: [taker] };
    const branch = {
      op: 'If',
      inputs: ['yes'],
      outputs: ['counted'],
      attributes: { then_branch: body, else_branch: body },
    };
    refuses({ ...animals, nodes: [...animals.nodes, branch] }, /as a node SequenceLength takes them too/);
    const returning: GraphSpec = { inputs: [], outputs: [{ name: 'scores', keys: 'string' }], nodes: [] };
    const returned = { ...branch, attributes: { then_branch: returning, else_branch: returning } };
    refuses({ ...animals, nodes: [...animals.nodes, returned] }, /as a graph in a node If returns them too/);
  });

  it('is refused where the maps come out of a graph inside of a node', () => {
    const [softmax, zipMap] = animals.nodes as [GraphSpec['nodes'][0], GraphSpec['nodes'][0]];
    const body = {
      inputs: [],
      outputs: [{ name: 'inside', keys: 'string' as const }],
      nodes: [{ ...zipMap, outputs: ['inside'] }],
    };
    const branch = {
      op: 'If',
      inputs: ['yes'],
      outputs: ['scores'],
      attributes: { then_branch: body, else_branch: body },
    };
    refuses({ ...animals, nodes: [softmax, branch] }, /as they do not come straight from a ZipMap node of the graph/);
  });

  it('is refused without classes', () => refuses(zipped('string', {}), /as its ZipMap names no classes/));

  it('is refused with the line for its exporter', () => {
    const made = (producer: string): Buffer => {
      const model = writeOnnx(zipped('string', {}));
      return Buffer.concat([model, field(2, producer)]); // the last one counts
    };
    expect(refusal(made('skl2onnx'))).to.match(
      /`skl2onnx\.to_onnx\(model, X\[:1\], options=\{id\(model\): \{'zipmap': False\}\}\)`$/,
    );
    expect(refusal(made('OnnxMLTools'))).to.match(
      /`onnxmltools\.convert_lightgbm\(model, initial_types=…, zipmap=False\)`$/,
    );
    expect(refusal(made('CatBoost'))).to.match(/take ZipMap out of the file: `python3 -c 'import onnx/);
  });
});

describe('the classes of a classifier without ZipMap', () => {
  const classifier = (more: Partial<GraphSpec>): GraphSpec => ({
    inputs: [x],
    outputs: [
      { name: 'label', dtype: 'int64', shape: ['n'] },
      { name: 'p', dtype: 'float32', shape: ['n', 3] },
    ],
    nodes: [
      {
        op: 'LinearClassifier',
        domain: 'ai.onnx.ml',
        inputs: ['x'],
        outputs: ['label', 'raw'],
        attributes: { coefficients: new Float32Array(9), classlabels_ints: [4, 2, 9] },
      },
      { op: 'Normalizer', domain: 'ai.onnx.ml', inputs: ['raw'], outputs: ['normal'], attributes: { norm: 'L1' } },
      { op: 'Identity', inputs: ['normal'], outputs: ['p'] },
    ],
    ...more,
  });
  const labels = (graph: GraphSpec) => [...openModelFile(write(writeOnnx(graph))).labels];

  it('are those of the node that classifies, through nodes that keep the columns', () =>
    expect(labels(classifier({}))).to.deep.equal([['p', [4, 2, 9]]]));

  it('are not known where another node mixes the columns, or there are more or fewer', () => {
    const [classify, normalise] = classifier({}).nodes as [GraphSpec['nodes'][0], GraphSpec['nodes'][0]];
    const mixed = { op: 'MatMul', inputs: ['normal', 'x'], outputs: ['p'] };
    expect(labels(classifier({ nodes: [classify, normalise, mixed] }))).to.deep.equal([]);
    expect(labels(classifier({ outputs: [{ name: 'p', dtype: 'float32', shape: ['n', 2] }] }))).to.deep.equal([]);
    expect(labels(classifier({ outputs: [{ name: 'p', dtype: 'float32', shape: null }] }))).to.deep.equal([]);
  });
});

describe('a text in a file', () => {
  const text = 'DynamicQuantizeLinear';
  const piece = 1 << 20;

  it('is found wherever it lies, also across two of the pieces that are read', () => {
    const last = 2 * piece + 100 - text.length;
    for (const at of [0, piece - text.length, piece - text.length + 1, piece - 1, piece, last]) {
      const bytes = Buffer.alloc(2 * piece + 100);
      bytes.write(text, at, 'latin1');
      expect(holdsText(write(bytes), text), String(at)).to.equal(true);
    }
  });

  it('is not found where it is not whole', () => {
    const bytes = Buffer.alloc(piece + 10);
    bytes.write(text, bytes.length - text.length + 1, 'latin1');
    expect(holdsText(write(bytes), text)).to.equal(false);
    expect(holdsText(write(Buffer.alloc(0)), text)).to.equal(false);
  });
});
