// Echoes, except for three words that mean something else.
// settings.greeting is put before each reply; with settings.sample, the model is measured before it serves.

export default ({ settings }) => ({
  ...(settings.sample === undefined ? {} : { sample: Buffer.from(settings.sample) }),
  infer(payloads) {
    const texts = payloads.map(String);
    if (texts.includes('poison')) throw new Error('poisoned');
    if (texts.includes('crash')) process.exit(7);
    const greeting = settings.greeting ?? '';
    return texts.map((text) => (text === 'bad' ? new Error('bad row') : Buffer.from(greeting + text)));
  },
});
