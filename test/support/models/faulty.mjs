// Echoes; three words make it do what no model should.

export default () => ({
  infer(payloads) {
    const texts = payloads.map(String);
    if (texts.includes('throw')) {
      setTimeout(() => {
        throw new Error('thrown by nobody');
      });
    }
    if (texts.includes('reject')) Promise.reject(new Error('rejected for nobody'));
    if (texts.includes('memory')) for (const hoard = []; ; ) hoard.push(new Array(1000).fill(hoard.length));
    return texts.map((text) => Buffer.from(text));
  },
});
