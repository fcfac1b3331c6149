#!/usr/bin/env node
// The command line: what to run, and the settings that flags override.

import cluster from 'node:cluster';
import { Command, InvalidArgumentError, Option } from 'commander';
import { runningVersion } from './code.js';
import { describeConfig, formatConfig } from './config/describe.js';
import { listenerProtocols } from './config/listener-protocols.js';
import { type Config, type LoadedConfig, type LoadOptions, leafKeys, loadConfig, logSettings } from './config/load.js';
import { schema } from './config/schema/schema.js';
import type { Operation } from './control/protocol.js';
import { messageOf, OperatorError, operatorErrors } from './errors.js';
import { logFatal } from './process/lifecycle.js';
import { createLog } from './process/log.js';
import type { OperateFlags } from './tools/operate/main.js';

interface ConfigFlags {
  readonly config?: string;
  readonly set: Readonly<Record<string, string>>;
  readonly host?: string;
  readonly port?: string;
  readonly protocol?: string;
  readonly model?: string;
  readonly workers?: string;
  readonly httpHost?: string;
  readonly httpPort?: string;
  readonly redisUrl?: string;
  readonly logLevel?: string;
}

const shortFlags: Readonly<Record<string, string>> = {
  host: 'server.host',
  port: 'server.port',
  protocol: 'server.protocol',
  model: 'server.model',
  workers: 'cluster.workers',
  httpHost: 'http.host',
  httpPort: 'http.port',
  redisUrl: 'redis.url',
  logLevel: 'log.level',
};

function collectSetting(text: string, collected: Readonly<Record<string, string>>): Record<string, string> {
  const [, key, value] = /^([\w.]+)=(.*)$/s.exec(text) ?? [];
  if (key === undefined || value === undefined)
    throw new InvalidArgumentError('write it as key=value, for example server.maxConnections=1000.');
  if (![...leafKeys(schema)].includes(key))
    throw new InvalidArgumentError(`there is no setting ${key}; \`ml-tcp-server config\` lists them.`);
  return { ...collected, [key]: value };
}

function withConfigFlags(command: Command): Command {
  return command
    .option('-c, --config <file>', 'JSON file with settings, over those of config/')
    .option('--host <address>', 'address of the TCP listener')
    .option('-p, --port <port>', 'port of the TCP listener')
    .option('--protocol <name>', `what clients speak: ${listenerProtocols.join(', ')}`)
    .option('-m, --model <name>', 'model to serve')
    .option('-w, --workers <count>', "worker processes, or 'auto' for one a core")
    .option('--http-host <address>', 'address of the metrics server')
    .option('--http-port <port>', 'port of the metrics server')
    .option('--redis-url <url>', 'Redis that metrics travel through')
    .option('--log-level <level>', 'least severity that is logged')
    .addOption(settingOption());
}

function settingOption(): Option {
  return new Option('-s, --set <key=value>', 'any setting, by its dotted key; may be repeated')
    .argParser(collectSetting)
    .default({}, 'none');
}

function load(flags: ConfigFlags): LoadedConfig {
  return loadConfig(layersOf(flags));
}

function layersOf(flags: ConfigFlags): LoadOptions {
  const short = Object.entries(shortFlags).flatMap(([flag, key]) => {
    const value = flags[flag as keyof ConfigFlags];
    return typeof value === 'string' ? [[key, value]] : [];
  });
  return {
    file: flags.config,
    env: process.env,
    flags: { ...flags.set, ...Object.fromEntries(short) },
    workingDirectory: process.cwd(),
  };
}

/**
 * A command that serves until it is stopped. Anything that prevents this, a wrong flag included, is written as a line
 * of its log like any other, because the log is what its operator reads.
 */
function servingCommand(
  name: string,
  role: 'primary' | 'aggregator',
  description: string,
  serve: (config: Config, flags: ConfigFlags) => Promise<void>,
): Command {
  const command = withConfigFlags(program.command(name).description(description));
  const fail = (error: unknown): never => {
    const { log, node } = logSettings(layersOf(command.opts()));
    process.exit(logFatal(createLog(log, { role, node }), error));
  };
  return command
    .configureOutput({ outputError: () => {}, writeErr: () => {} })
    .exitOverride(({ exitCode, message }) => {
      if (exitCode === 0) process.exit(0); // help was asked for
      fail(
        new OperatorError(
          'CONFIG_INVALID',
          `${withoutValue(message)}; ml-tcp-server ${name} --help shows what there is`,
        ),
      );
    })
    .action(async (flags: ConfigFlags) => {
      try {
        if (cluster.isWorker) return endInCluster(role, flags);
        await serve(load(flags).config, flags);
      } catch (error) {
        fail(error);
      }
    });
}

/** Commander's message on one line, without the value that it repeats: the value may be long or secret. */
function withoutValue(message: string): string {
  const text = message
    .replace(/^error: /, '')
    .replace(/ argument '.*' is invalid\.? /s, ' is wrong: ')
    .replace(/^(unknown option '-[^=']*)=.*'/s, "$1'")
    .replace(/\s*\n\s*/g, ' ');
  return text.length > 400 ? `${text.slice(0, 400)}…` : text;
}

/**
 * PM2 in cluster mode forks its processes with node:cluster. Such a process cannot fork workers with node:cluster
 * itself, and its log goes nowhere: PM2 captures only what is written to process.stdout, not to the descriptor.
 */
function endInCluster(role: string, flags: ConfigFlags): void {
  const { exitCode } = operatorErrors.CONFIG_INVALID;
  const line = {
    level: 'fatal',
    time: new Date().toISOString(),
    role,
    node: logSettings(layersOf(flags)).node,
    pid: process.pid,
    code: 'CONFIG_INVALID',
    msg: "this process was forked by node:cluster, as PM2's cluster mode (-i, exec_mode: 'cluster') does: run it in fork mode, as ecosystem.config.cjs does; the server itself forks a worker for each core (--workers, WORKERS)",
  };
  process.stdout.write(`${JSON.stringify(line)}\n`, () => process.exit(exitCode));
  setTimeout(() => process.exit(exitCode), 1000); // in case the write is never confirmed
}

const program = new Command('ml-tcp-server')
  .description(
    'Real-time machine-learning inference over TCP, on every core, with one exact view of the whole cluster.',
  )
  .version(runningVersion, '-v, --version')
  .showHelpAfterError('(--help shows what there is)')
  .configureOutput({ outputError: (message, write) => write(`error: ${withoutValue(message)}\n`) })
  // Commander itself exits with 1, after which process managers restart.
  .exitOverride(({ exitCode }) => process.exit(exitCode === 0 ? 0 : operatorErrors.CONFIG_INVALID.exitCode))
  .configureHelp({ sortSubcommands: false });

servingCommand(
  'start',
  'primary',
  'serve: workers on the TCP port and, without Redis, the metrics server',
  async (config, flags) => {
    const { startPrimary } = await import('./primary/main.js');
    await startPrimary(config, () => load(flags).config);
  },
).addHelpText(
  'after',
  '\nSettings come from config/*.json, --config, .env, the environment and these flags, the later over the earlier.\nSIGTERM or Ctrl-C answers what is in flight and ends; a second one ends at once.',
);

servingCommand('aggregator', 'aggregator', 'serve the metrics of a cluster that shares a Redis', async (config) => {
  const { startAggregator } = await import('./aggregator/main.js');
  await startAggregator(config);
});

program
  .command('top')
  .description('watch the cluster at the terminal; q quits; a line a second where the output is piped')
  .option('--metrics <url>', 'aggregator to ask', 'http://127.0.0.1:8080')
  .option('--token <token>', 'as http.token of the aggregator; better in HTTP_TOKEN, where other users cannot see it')
  .option('--once', 'print everything once')
  .option('--json', 'print the metrics as JSON, a line each')
  .action(async (flags: { metrics: string; token?: string; once?: boolean; json?: boolean }) => {
    const { top } = await import('./tools/top/main.js');
    const token = flags.token ?? process.env.HTTP_TOKEN ?? '';
    await top({ url: flags.metrics, token, once: flags.once ?? false, json: flags.json ?? false });
    process.exit(0);
  });

program
  .command('simulate')
  .description('send the held-out digits from several clients, check every reply, and compare the totals')
  .option('--host <address>', 'server to send to', '127.0.0.1')
  .option('-p, --port <port>', 'its TCP port', '8081')
  .option('-c, --clients <count>', 'connections at once', '8')
  .option('-n, --requests <count>', 'requests over all clients', '20000')
  .option('-d, --depth <count>', 'requests that each client keeps in flight; without --rate', '32')
  .option(
    '-r, --rate <per second>',
    'requests a second over all clients, each sent when it is due; 0: as many as come back',
    '0',
  )
  .option('--payload-size <bytes>', 'send random bytes of this size instead of digits, for other models')
  .option('--zeros', 'with --payload-size: send zeros, for models that random bytes mean nothing to')
  .option('--payload <file>', 'send what this file holds, as it is, instead of digits')
  .option('--length-field-size <bytes>', 'bytes of the length in front of each payload: 2, 4 or 8', '4')
  .option('--metrics <url>', 'metrics server to compare totals with; none skips it', 'http://127.0.0.1:8080/metrics')
  .option('--token <token>', 'as http.token of the metrics server; better in HTTP_TOKEN')
  .option('--secret <secret>', 'as server.sharedSecret; better in SHARED_SECRET')
  .option('--tls-ca <file>', 'speak TLS, and trust the certificates of this PEM file')
  .addHelpText(
    'after',
    '\nExit code 0: every reply was right and the totals agree (or were not asked for); 1: they were not.',
  )
  .action(async (flags: Record<string, string>) => {
    const { parseSimulation, simulate } = await import('./tools/simulate/main.js');
    process.exitCode = await simulate(parseSimulation(flags, process.env));
  });

program
  .command('inspect [model]')
  .description('tell what a model takes and gives, what batching gains, and where it would run; serves nothing')
  .option('-c, --config <file>', 'JSON file with settings; without a model file, the models that it names')
  .option('-m, --model <name>', 'only the model of this name in config; or its settings for the model file')
  .addOption(settingOption())
  .option('--json', 'as JSON')
  .addHelpText('after', '\nExit code 0: it can be served; 2: a flag or a setting is wrong; 4: it cannot be served.')
  .action(
    async (path: string | undefined, flags: Pick<ConfigFlags, 'config' | 'set' | 'model'> & { json?: boolean }) => {
      const { model, ...layers } = flags;
      const { inspect } = await import('./tools/inspect/main.js');
      process.exit(await inspect(path, load(layers), flags));
    },
  );

function parsePid(text: string): string {
  if (!/^[1-9]\d{0,9}$/.test(text)) throw new InvalidArgumentError('write the number that `ps` shows.');
  return text;
}

function withServerFlags(command: Command): Command {
  return command
    .option('--socket <path>', 'control socket of the server', process.env.CONTROL_SOCKET ?? '')
    .addOption(new Option('--pid <pid>', 'process id of the server, where this user runs several').argParser(parsePid))
    .option('--json', 'print the status as JSON');
}

async function run(operation: Operation, flags: OperateFlags): Promise<void> {
  const { runOperation } = await import('./tools/operate/main.js');
  await runOperation(operation, flags);
}

const operateHelp =
  '\nExit code 0: done; 6: no such server runs; 7: it could not be done, and the server serves on as before.';

withServerFlags(program.command('status').description('show a running server: its workers, listeners, connections'))
  .addHelpText('after', operateHelp)
  .action((flags: OperateFlags) => run({ command: 'status' }, flags));

withServerFlags(
  program
    .command('reload')
    .description('replace all workers, with config and models as they are now; no connection is dropped')
    .option('--models', 'only look for new versions of models, and load them in the workers there are'),
)
  .addHelpText('after', operateHelp)
  .action((flags: OperateFlags & { models?: boolean }) =>
    run({ command: 'reload', ...(flags.models ? { only: 'models' } : {}) }, flags),
  );

withServerFlags(program.command('scale <workers>').description('run so many workers; no connection is dropped'))
  .addHelpText('after', operateHelp)
  .action((workers: string, flags: OperateFlags) => {
    if (!/^\d{1,6}$/.test(workers)) throw new OperatorError('CONFIG_INVALID', `${workers} is no number of workers`);
    return run({ command: 'scale', workers: Number(workers) }, flags);
  });

withServerFlags(program.command('drain').description('answer what is in flight and end, as SIGTERM does'))
  .addHelpText('after', operateHelp)
  .action((flags: OperateFlags) => run({ command: 'drain' }, flags));

withConfigFlags(program.command('config').description('print the effective settings, and where each came from'))
  .option('--json', 'as JSON')
  .option('--check', 'try the Redis that is configured instead, and say what would mend it')
  .addHelpText('after', '\nExit code 0: all is well; 2: a setting is wrong, or Redis cannot be used as it is.')
  .action(async (flags: ConfigFlags & { json?: boolean; check?: boolean }) => {
    const loaded = load(flags);
    if (flags.check) {
      const { printRedisCheck } = await import('./redis-check.js');
      process.exit(await printRedisCheck(loaded.config, flags.json ?? false));
    }
    const settings = describeConfig(loaded);
    console.log(flags.json ? JSON.stringify(settings, null, 2) : formatConfig(settings));
  });

try {
  await program.parseAsync();
} catch (error) {
  if (!(error instanceof OperatorError)) throw error;
  // Setting exitCode is not enough: under a process manager an open channel would keep this process alive. Nor does the
  // process wait forever until the message is read.
  const end = () => process.exit(error.exitCode);
  setTimeout(end, 1000);
  process.stderr.write(`ml-tcp-server: ${messageOf(error, 20_000)}\n`, end);
}
