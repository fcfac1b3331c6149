// Prints for each batch, and echoes.
// settings.lines: lines of 1,000 bytes for each batch; settings.to: stdout or stderr.

export default ({ settings: { lines, to } }) => ({
  infer(payloads) {
    for (let i = 0; i < lines; i++) process[to].write(`${'.'.repeat(999)}\n`);
    return payloads;
  },
});
