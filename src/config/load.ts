// Loads settings from files, the environment and flags, and validates them.
//
// Layers, each overriding the one before: schema defaults, config/default.json, config/$NODE_ENV.json, --config FILE
// (or CONFIG_FILE), .env, environment, flags. Every mistake of every layer is reported at once, with its origin.

import { existsSync, readFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseEnv } from 'node:util';
import { messageOf, OperatorError } from '../errors.js';
import { parseRedisUrl } from '../metrics/transport/redis-address.js';
import { type TlsSettings, usesTls } from '../net/certificates.js';
import { isSocketPath, maxSocketPathBytes } from '../net/socket-path.js';
import { type BoundAddress, collisions, httpSettings, listenerSettings } from './addresses.js';
import { mistakeIn } from './convict-formats.js';
import { type CpuLimit, cpuLimit, describeCpuLimit, workersFor } from './cpu-limit.js';
import { type Holder, holderFor } from './holder.js';
import { dummyName, type Listener, listenerMistakes, resolvedListener } from './listeners.js';
import { type ListenerEntry, listenerSchema } from './schema/listeners.js';
import type { LogSettings } from './schema/log.js';
import { modelSchema } from './schema/models.js';
import { type Settings, schema } from './schema/schema.js';
import type { SettingsOf } from './setting.js';

/** The folder of this package: where config/ and the shipped model are. */
export const packageRoot = fileURLToPath(new URL('../..', import.meta.url));

export interface LoadOptions {
  /** --config FILE; if absent, CONFIG_FILE in `env` is used. */
  readonly file?: string | undefined;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Settings given as flags: dotted key → text. */
  readonly flags?: Readonly<Record<string, string>>;
  readonly workingDirectory: string;
  /** The limit of processor time; by default that of this process's cgroups. */
  readonly cpuLimit?: CpuLimit | null;
}

/** Settings as the processes use them: names resolved, lists filled in, paths absolute. */
export interface Config extends Omit<Settings, 'listeners'> {
  readonly cluster: Settings['cluster'] & { readonly workers: number };
  readonly listeners: readonly Listener[];
  /** Whether config lists its listeners; else the only one comes from server.host, .port, .protocol and .model. */
  readonly hasListenerList: boolean;
}

/** Whether metrics travel through Redis; else they stay in the process tree. */
export function usesRedis({ redis }: Pick<Settings, 'redis'>): boolean {
  return redis.url !== '' || redis.nodes.length > 0;
}

export interface LoadedConfig {
  readonly config: Config;
  /** Where each setting's value came from, by dotted key. */
  readonly sources: ReadonlyMap<string, string>;
}

interface Layer {
  readonly source: string;
  readonly values: Record<string, unknown>;
  /** Names the variable or flag that set a key, for layers that are not files. */
  readonly names?: Readonly<Record<string, string>>;
}

/** Throws OperatorError CONFIG_INVALID that lists every mistake. */
export function loadConfig(options: LoadOptions): LoadedConfig {
  const mistakes: string[] = [];
  const settings = holderFor(schema);
  const sources = new Map<string, string>();
  const keys = [...leafKeys(schema)];
  for (const key of keys) sources.set(key, 'built-in default');
  for (const layer of layers(options, mistakes)) {
    for (const [key, value] of leaves(layer.values, keys)) {
      if (!keys.includes(key)) {
        const isSection = keys.some((known) => known.startsWith(`${key}.`));
        mistakes.push(
          isSection
            ? `${key}: must be an object (from ${layer.source})`
            : `${key}: there is no such setting (from ${layer.source})${suggestion(key, keys)}`,
        );
        continue;
      }
      settings.set(key as never, value as never);
      sources.set(key, layer.names?.[key] ?? layer.source);
    }
  }
  mistakes.push(...validate(settings, (key) => ` (from ${sources.get(key)})`));
  const given = settings.getProperties();
  const models = entries('models', given.models, modelSchema, mistakes);
  const listeners = entries('listeners', given.listeners, listenerSchema, mistakes);
  const values: Settings = { ...given, models, listeners };
  if (mistakes.length === 0) {
    const { workingDirectory, cpuLimit: limit = cpuLimit() } = options;
    const written = listenerEntries(values, sources);
    const config = resolved(values, written, workingDirectory, limit);
    if (values.cluster.workers === 'auto' && limit !== null)
      sources.set('cluster.workers', `${sources.get('cluster.workers')}, auto: ${describeCpuLimit(limit)}`);
    mistakes.push(...contradictions(config, values, written, sources));
    if (config.server.model !== values.server.model && config.server.model !== '')
      sources.set('server.model', 'the only model of config');
    if (mistakes.length === 0) return { config, sources };
  }
  const count = mistakes.length === 1 ? 'a mistake' : `${mistakes.length} mistakes`;
  throw new OperatorError(
    'CONFIG_INVALID',
    `the configuration has ${count}:\n${mistakes.map((mistake) => `  - ${mistake}`).join('\n')}`,
  );
}

function layers(options: LoadOptions, mistakes: string[]): Layer[] {
  const { env, workingDirectory } = options;
  const found: Layer[] = [];
  const addFile = (path: string, source: string): void => {
    try {
      const values: unknown = JSON.parse(readFileSync(path, 'utf8'));
      if (typeof values !== 'object' || values === null || Array.isArray(values))
        throw new Error('it holds no JSON object');
      found.push({ source, values: values as Record<string, unknown> });
    } catch (error) {
      mistakes.push(`${source}: cannot be read: ${messageOf(error, 200)}`);
    }
  };
  addFile(resolve(packageRoot, 'config/default.json'), 'config/default.json');
  const dotEnv = readDotEnv(resolve(workingDirectory, '.env'), mistakes);
  const nodeEnv = env.NODE_ENV ?? dotEnv.NODE_ENV;
  const nodeEnvFile = `config/${nodeEnv}.json`;
  if (
    nodeEnv !== undefined &&
    /^[\w-]+$/.test(nodeEnv) &&
    nodeEnv !== 'default' &&
    existsSync(resolve(packageRoot, nodeEnvFile))
  ) {
    addFile(resolve(packageRoot, nodeEnvFile), nodeEnvFile);
  }
  const file = options.file ?? env.CONFIG_FILE ?? dotEnv.CONFIG_FILE;
  if (file !== undefined && file !== '') addFile(resolve(workingDirectory, file), file);
  found.push(environmentLayer(dotEnv, '.env'), environmentLayer(env, 'environment'));
  const flags = options.flags ?? {};
  found.push({
    source: 'flags',
    values: { ...flags },
    names: Object.fromEntries(Object.keys(flags).map((key) => [key, `flag ${key}`])),
  });
  return found;
}

/** Empty when there is no such file. */
function readDotEnv(file: string, mistakes: string[]): Readonly<Record<string, string | undefined>> {
  if (!existsSync(file)) return {};
  try {
    return parseEnv(readFileSync(file, 'utf8'));
  } catch (error) {
    mistakes.push(`.env: cannot be read: ${messageOf(error, 200)}`);
    return {};
  }
}

/**
 * The format of log lines and the node that they name when the configuration as a whole is invalid: for each of these
 * settings, the last valid value.
 */
export function logSettings(options: LoadOptions): { readonly log: LogSettings; readonly node: string } {
  const found = holderFor({ log: schema.log, cluster: { node: schema.cluster.node } });
  const keys = ['log.level', 'log.format', 'cluster.node'] as const;
  for (const layer of layers(options, [])) {
    for (const [key, value] of leaves(layer.values, [...keys])) {
      const known = keys.find((candidate) => candidate === key);
      if (known === undefined) continue;
      const before = found.get(known);
      found.set(known, value as never);
      if (validate(found, () => '').length > 0) found.set(known, before as never);
    }
  }
  const { log, cluster } = found.getProperties();
  return { log, node: resolvedNode(cluster.node) };
}

function environmentLayer(env: Readonly<Record<string, string | undefined>>, source: string): Layer {
  const values: Record<string, unknown> = {};
  const names: Record<string, string> = {};
  for (const key of leafKeys(schema)) {
    const variable = leafSchema(key).env;
    const value = variable === undefined ? undefined : env[variable];
    if (variable === undefined || value === undefined || value === '') continue;
    values[key] = value;
    names[key] = `${source} ${variable}`;
  }
  return { source, values, names };
}

interface LeafSchema {
  readonly doc: string;
  readonly format: unknown;
  readonly default: unknown;
  readonly env?: string;
  readonly sensitive?: boolean;
}

/** Where values come from that nobody has chosen. */
const defaultSources: readonly string[] = ['built-in default', 'config/default.json'];

/** Dotted keys of all settings. */
export function* leafKeys(tree: object, prefix = ''): Generator<string> {
  for (const [name, node] of Object.entries(tree)) {
    if ('doc' in node) yield prefix + name;
    else yield* leafKeys(node, `${prefix}${name}.`);
  }
}

export function leafSchema(key: string, tree: object = schema): LeafSchema {
  return key.split('.').reduce<unknown>((node, name) => (node as Record<string, unknown>)[name], tree) as LeafSchema;
}

/** Dotted key and value of all that a layer sets, down to the known keys; unknown keys are yielded as they are. */
function* leaves(values: Record<string, unknown>, keys: readonly string[], prefix = ''): Generator<[string, unknown]> {
  for (const [name, value] of Object.entries(values)) {
    const key = prefix + name;
    const isSection = keys.some((known) => known.startsWith(`${key}.`));
    if (isSection && typeof value === 'object' && value !== null && !Array.isArray(value)) {
      yield* leaves(value as Record<string, unknown>, keys, `${key}.`);
    } else {
      yield [key, value];
    }
  }
}

/** Convict's report, one mistake per line, without the values that it quotes: they may be long, or secret. */
function validate<T>(settings: Holder<T>, origin: (key: string) => string): string[] {
  try {
    settings.validate({ allowed: 'strict' });
    return [];
  } catch (error) {
    return messageOf(error, 20_000)
      .split('\n')
      .map((line) => {
        const [, key = '', reason = line] = /^([\w.]+): (.*?)(?:: value was .*)?$/.exec(line) ?? [];
        const unknown = /^configuration param '(.+)' not declared in the schema$/.exec(line)?.[1];
        return unknown !== undefined ? `${unknown}: there is no such setting` : `${key}: ${reason}${origin(key)}`;
      });
  }
}

function entries<Tree extends object>(
  list: string,
  values: unknown,
  entrySchema: Tree,
  mistakes: string[],
): SettingsOf<Tree>[] {
  if (!Array.isArray(values)) return [];
  const keys = [...leafKeys(entrySchema)];
  return values.map((value: unknown, i) => {
    const at = `${list}[${i}]`;
    if (typeof value !== 'object' || value === null) {
      mistakes.push(`${at}: must be an object`);
      return {} as SettingsOf<Tree>;
    }
    const entry = holderFor(entrySchema);
    // Convict takes the keys of an object, and what is between their dots, for settings.
    const objects: Record<string, unknown> = {};
    for (const [key, one] of leaves(value as Record<string, unknown>, keys)) {
      const isObject = typeof one === 'object' && one !== null && !Array.isArray(one);
      if (!isObject || !keys.includes(key)) entry.set(key as never, one as never);
      else {
        const mistake = mistakeIn(leafSchema(key, entrySchema).format, one);
        if (mistake !== null) mistakes.push(`${at}.${key}: ${mistake}`);
        objects[key] = one;
      }
    }
    mistakes.push(...validate(entry, () => '').map((mistake) => `${at}.${mistake}`));
    return { ...entry.getProperties(), ...objects };
  });
}

/** The machine's host name where config gives no name. */
const resolvedNode = (node: string): string => node || hostname();

/**
 * The listeners as config has them. Without a list, the one of `server`; there the model of config/default.json is
 * meant only while it is there: who lists models of his own has not chosen it.
 */
function listenerEntries(settings: Settings, sources: Map<string, string>): readonly ListenerEntry[] {
  if (settings.listeners.length > 0) return settings.listeners;
  const { host, port, protocol, model } = settings.server;
  const isThere = settings.models.some(({ name }) => name === model);
  const isChosen = isThere || !defaultSources.includes(sources.get('server.model') ?? '');
  return [{ host, port, protocol, model: isChosen ? model : '', models: [], tls: null }];
}

function resolved(
  settings: Settings,
  entries: readonly ListenerEntry[],
  workingDirectory: string,
  limit: CpuLimit | null,
): Config {
  const models = settings.models.map((model) => ({
    ...model,
    path: model.path && modelPath(model.path, workingDirectory),
  }));
  if (!models.some((model) => model.name === dummyName))
    models.push({ ...holderFor(modelSchema).getProperties(), name: dummyName, backend: 'dummy' });
  const names = models.map(({ name }) => name);
  const tls = withPaths(settings.server.tls, workingDirectory);
  const listeners = entries.map((entry) =>
    resolvedListener(entry, names, { host: settings.server.host, tls: usesTls(tls) }),
  );
  const hasListenerList = settings.listeners.length > 0;
  const { packageFolder } = settings.onnxRuntime;
  return {
    ...settings,
    hasListenerList,
    models: models.map((entry) => ({ ...entry, responseSize: entry.responseSize ?? settings.server.responseSize })),
    server: { ...settings.server, tls, model: hasListenerList ? settings.server.model : (listeners[0]?.model ?? '') },
    onnxRuntime: {
      ...settings.onnxRuntime,
      packageFolder: packageFolder === '' ? '' : resolve(workingDirectory, packageFolder),
    },
    http: { ...settings.http, tls: withPaths(settings.http.tls, workingDirectory) },
    redis: withPaths(settings.redis, workingDirectory),
    listeners,
    cluster: {
      ...settings.cluster,
      node: resolvedNode(settings.cluster.node),
      workers: settings.cluster.workers === 'auto' ? workersFor(limit) : settings.cluster.workers,
    },
  };
}

/** Resolves the paths of certificate files against the working directory. */
function withPaths<Files extends Pick<TlsSettings, 'certFile' | 'keyFile' | 'caFile'>>(
  tls: Files,
  workingDirectory: string,
): Files {
  const path = (file: string): string => (file === '' ? '' : resolve(workingDirectory, file));
  return { ...tls, certFile: path(tls.certFile), keyFile: path(tls.keyFile), caFile: path(tls.caFile) };
}

/**
 * Resolves a path against the working directory, or, if it is only in this package, against the package, so that the
 * shipped model is found from anywhere.
 */
function modelPath(path: string, workingDirectory: string): string {
  const here = resolve(workingDirectory, path);
  const shipped = resolve(packageRoot, path);
  return !existsSync(here) && existsSync(shipped) ? shipped : here;
}

/** Mistakes in settings that are each valid but contradict one another. */
function contradictions(
  config: Config,
  given: Settings,
  entries: readonly ListenerEntry[],
  sources: ReadonlyMap<string, string>,
): string[] {
  const mistakes: string[] = [];
  const names = config.models.map((model) => model.name);
  for (const name of new Set(names.filter((name, i) => names.indexOf(name) !== i)))
    mistakes.push(`models: two are named ${name}: give each a name of its own`);
  config.models.forEach((model, i) => {
    if (model.backend !== 'dummy' && model.path === '')
      mistakes.push(`models[${i}].path: the ${model.backend} model ${model.name} needs one`);
  });
  const from = (key: string): string => ` (from ${sources.get(key)})`;
  const hasList = given.listeners.length > 0;
  const keyOf = (i: number, key: string): string =>
    hasList ? `listeners[${i}].${key}` : `server.${key}${from(`server.${key}`)}`;
  mistakes.push(...listenerMistakes(config, entries, keyOf, from));
  config.listeners.forEach((listener, i) => {
    if (listener.tls && !usesTls(config.server.tls))
      mistakes.push(`listeners[${i}].tls: needs a certificate: set server.tls.certFile and server.tls.keyFile`);
  });
  mistakes.push(...collisions(boundAddresses(config)));
  const { socket } = config.control;
  if (!isSocketPath(socket))
    mistakes.push(
      `control.socket (from ${sources.get('control.socket')}): has ${Buffer.byteLength(socket)} bytes, and the path of a unix socket may have ${maxSocketPathBytes}: choose a shorter one`,
    );
  for (const [section, { certFile, keyFile, caFile }] of [
    ['server.tls', config.server.tls],
    ['http.tls', config.http.tls],
  ] as const) {
    if ((certFile === '') !== (keyFile === ''))
      mistakes.push(`${section}: certFile and keyFile belong together: set both or none`);
    if (caFile !== '' && certFile === '')
      mistakes.push(`${section}.caFile: has no effect without TLS: set ${section}.certFile and ${section}.keyFile`);
  }
  mistakes.push(...redisContradictions(config.redis));
  if (hasList) {
    for (const key of ['server.port', 'server.model', 'server.protocol']) {
      const source = sources.get(key) ?? '';
      if (/^(environment|\.env|flag)/.test(source))
        mistakes.push(
          `${key}: has no effect beside listeners (${source}; listeners from ${sources.get('listeners')}): remove one of the two`,
        );
    }
  }
  return mistakes;
}

function redisContradictions(redis: Settings['redis']): string[] {
  const mistakes: string[] = [];
  const { url, nodes, masterName, certFile, keyFile, caFile, sentinelTls } = redis;
  if ((certFile === '') !== (keyFile === ''))
    mistakes.push('redis: certFile and keyFile belong together: set both or none');
  if (url.startsWith('redis://') && sentinelTls !== true && (caFile !== '' || certFile !== ''))
    mistakes.push(
      `redis.${caFile === '' ? 'certFile' : 'caFile'}: has no effect without TLS: begin redis.url with rediss://`,
    );
  if (masterName !== '' && nodes.length === 0)
    mistakes.push('redis.masterName: needs the Sentinels that watch it: list them in redis.nodes');
  if (masterName === '' && nodes.length > 0 && url !== '' && parseRedisUrl(url).db !== 0)
    mistakes.push(
      'redis.url: a Redis Cluster has only database 0: take the number out (or set redis.masterName, if redis.nodes are Sentinels)',
    );
  return mistakes;
}

/** What `ml-tcp-server start` binds. With Redis the aggregator is a separate process, often on another machine. */
function boundAddresses(config: Config): readonly BoundAddress[] {
  const listeners = config.listeners.map(({ host, port }, i) => ({
    settings: listenerSettings(config, i),
    host,
    port,
  }));
  const { host, port } = config.http;
  return usesRedis(config) ? listeners : [...listeners, { settings: httpSettings, host, port }];
}

function suggestion(key: string, keys: readonly string[]): string {
  const name = key.split('.').at(-1)?.toLowerCase();
  const near = keys.find((known) => known.split('.').at(-1)?.toLowerCase() === name);
  return near === undefined || near === key ? '' : `: do you mean ${near}?`;
}
