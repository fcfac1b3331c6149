/** How the tests have ONNX Runtime run a model: as config does by default. */
export const session = {
  intraOpNumThreads: 1,
  interOpNumThreads: 1,
  executionProviders: ['cpu'],
  graphOptimizationLevel: 'all',
} as const;
