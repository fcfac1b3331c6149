// The aggregator as a child of the primary: records come over IPC, and it ends with its primary.

import { runningCode } from '../code.js';
import { messageOf, OperatorError } from '../errors.js';
import { sendToPrimary } from '../ipc/channel.js';
import type { AggregatorBoot, ToAggregator } from '../ipc/messages.js';
import { IpcSource } from '../metrics/transport/ipc.js';
import { ignoreTreeSignals, logFatal } from '../process/lifecycle.js';
import { createLog } from '../process/log.js';
import { type Aggregator, openAggregator } from './aggregator.js';

const source = new IpcSource();
let aggregator: Aggregator | null = null;

ignoreTreeSignals();
process.on('disconnect', () => process.exit(0));
process.on('message', async (message: ToAggregator) => {
  switch (message.kind) {
    case 'boot':
      return boot(message);
    case 'update':
      return source.receive(message.update);
    case 'drain':
      await aggregator?.close();
      process.exit(0);
  }
});
await sendToPrimary({ kind: 'hello', code: runningCode }).catch(() => process.exit(0));

async function boot({ config }: AggregatorBoot): Promise<void> {
  const log = createLog(config.log, { role: 'aggregator', node: config.cluster.node });
  process.on('uncaughtException', (error) => process.exit(logFatal(log, error)));
  try {
    aggregator = await openAggregator(config, source, null, log);
    await sendToPrimary({ kind: 'ready', url: aggregator.url });
  } catch (error) {
    const code = error instanceof OperatorError ? error.code : 'UNEXPECTED';
    await sendToPrimary({ kind: 'boot-failed', code, message: messageOf(error) });
    process.exit(1);
  }
}
