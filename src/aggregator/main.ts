// The aggregator as a process of its own, beside Redis. The one that a primary brings along is embedded.ts: it reads no
// config and does without what speaks to Redis.

import { describeRedis } from '../config/describe.js';
import { type Config, usesRedis } from '../config/load.js';
import { aggregatorConfig } from '../config/slices.js';
import { OperatorError } from '../errors.js';
import type { RedisSource } from '../metrics/transport/redis.js';
import { logFatal, onStopSignal } from '../process/lifecycle.js';
import { createLog } from '../process/log.js';
import { checkRedisFiles, logRedis, warnOfEviction } from '../redis-log.js';
import { openAggregator } from './aggregator.js';
import { joinElection } from './leader-election.js';

export async function startAggregator(config: Config): Promise<void> {
  const log = createLog(config.log, { role: 'aggregator', node: config.cluster.node });
  process.on('uncaughtException', (error) => process.exit(logFatal(log, error)));
  try {
    if (!usesRedis(config)) {
      throw new OperatorError(
        'CONFIG_INVALID',
        'an aggregator of its own reads the metrics from Redis: set redis.url (REDIS_URL). Without Redis, `ml-tcp-server start` brings one along',
      );
    }
    const redis = describeRedis(config.redis);
    checkRedisFiles(config);
    let source: RedisSource | null = null;
    const tell = logRedis(log, config, {
      lost: 'redis lost: serving the last known state',
      refusing: 'redis refuses a command: metrics, live updates or the history may stand still',
    });
    const election = await joinElection(config, (state, problem) => {
      tell(state, problem);
      if (state === 'back' && source !== null) void warnOfEviction(log, config, source);
    });
    source = election.source;
    void warnOfEviction(log, config, source);
    const aggregator = await openAggregator(aggregatorConfig(config), election.source, election, log);
    log.info({ metrics: `${aggregator.url}/metrics`, redis, cluster: config.cluster.name }, 'ready');
    process.send?.('ready');
    onStopSignal(
      async (signal) => {
        log.info({ signal }, 'stopping');
        await aggregator.close();
        await election.close();
        process.exit(0);
      },
      () => process.exit(1),
    );
  } catch (error) {
    process.exit(logFatal(log, error));
  }
}
