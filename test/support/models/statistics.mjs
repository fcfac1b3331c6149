// Answers each request with the pid of its worker and the statistics of the model settings.of, of the whole node: as
// any protocol of a worker would ask for them. settings.dist is the folder of the compiled sources.

export default async ({ settings }) => {
  const { NodeStatistics } = await import(`${settings.dist}worker/oip/statistics.js`);
  const { sendToPrimary } = await import(`${settings.dist}ipc/channel.js`);
  const node = new NodeStatistics({
    ask: ({ kind, question }) => sendToPrimary({ kind, question: 1e6 + question }),
    timeoutMs: 10_000,
  });
  process.on('message', (message) => {
    if (message.kind === 'statistics') node.answered({ ...message, question: message.question - 1e6 });
  });
  return {
    async infer(payloads) {
      const found = await node.of([settings.of]);
      const reply = Buffer.from(JSON.stringify({ pid: process.pid, statistics: found.get(settings.of) }));
      return payloads.map(() => reply);
    },
  };
};
