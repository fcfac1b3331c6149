// Computes for settings.ms without a pause, whatever the number of rows, then echoes.

export default ({ settings }) => ({
  sample: Buffer.from('sample'),
  infer(payloads) {
    const until = performance.now() + settings.ms;
    while (performance.now() < until);
    return payloads.map((payload) => Buffer.from(payload));
  },
});
