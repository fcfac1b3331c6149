// `ml-tcp-server config --check`: what it prints about the configured Redis, and the exit code.

import { describeRedis } from './config/describe.js';
import { type Config, usesRedis } from './config/load.js';
import { OperatorError, operatorErrors } from './errors.js';
import { checkRedis, type Finding } from './metrics/transport/redis-check.js';
import { checkRedisFiles } from './redis-log.js';

/** Resolves to the exit code: 0 when everything works, even with warnings, and 2 when not. */
export async function printRedisCheck(config: Pick<Config, 'redis' | 'cluster'>, asJson: boolean): Promise<number> {
  const findings: Finding[] = [];
  const redis = usesRedis(config) ? describeRedis(config.redis) : null;
  const note = (finding: Finding): void => {
    findings.push(finding);
    if (!asJson) console.log(formatFinding(finding));
  };
  if (redis === null) {
    if (!asJson) console.log('no Redis is configured (redis.url, redis.nodes): there is nothing to try');
  } else {
    if (!asJson) console.log(`Redis: ${redis}`);
    try {
      checkRedisFiles(config);
      for await (const finding of checkRedis(config.redis, config.cluster.name)) note(finding);
    } catch (error) {
      if (!(error instanceof OperatorError)) throw error;
      note({ result: 'failed', step: 'files', reason: error.message, advice: '' });
    }
  }
  const isWell = findings.every(({ result }) => result !== 'failed');
  if (asJson) console.log(JSON.stringify({ redis, ok: isWell, findings }, null, 2));
  return isWell ? 0 : operatorErrors.CONFIG_INVALID.exitCode;
}

function formatFinding({ result, step, reason, advice }: Finding): string {
  return `${result.padEnd(7)}  ${step}: ${reason}${advice === '' ? '' : `\n         ${advice}`}`;
}
