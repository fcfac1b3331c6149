/** How the tests let ONNX Runtime run a model: as config does by default. */
export const session = {
  intraOpNumThreads: 1,
  interOpNumThreads: 1,
  executionProviders: ['cpu'],
  graphOptimizationLevel: 'all',
  enableCpuMemArena: true,
  enableMemPattern: false,
} as const;
