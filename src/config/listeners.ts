// What each listener serves, and in which protocol: filled in where config leaves it out, and checked.

import { maxTellableLength } from '../protocol/first-bytes.js';
import { maxFrameLength } from '../protocol/frames.js';
import { type ListenerProtocol, takesHttp, takesRawFrames } from './listener-protocols.js';
import type { ListenerEntry } from './schema/listeners.js';
import type { ModelEntry } from './schema/models.js';
import type { ServerSettings } from './schema/server.js';

export interface Listener {
  readonly host: string;
  readonly port: number;
  readonly protocol: ListenerProtocol;
  /** By name: all that clients can ask. */
  readonly models: readonly string[];
  /** The one of raw payloads, and of requests that name none; null: requests must name theirs. */
  readonly model: string | null;
  readonly tls: boolean;
}

/** A model of this name is always there, listed or not: it is chosen only by who names it. */
export const dummyName = 'dummy';

/**
 * @param names of all models
 * @param defaults for what the entry leaves out
 */
export function resolvedListener(
  entry: ListenerEntry,
  names: readonly string[],
  defaults: { readonly host: string; readonly tls: boolean },
): Listener {
  const { port, protocol } = entry;
  const isRestricted = entry.models.length > 0;
  const open = isRestricted ? [...new Set(entry.models)] : names;
  const model = entry.model || only(isRestricted ? open : open.filter((name) => name !== dummyName));
  return {
    host: entry.host || defaults.host,
    port,
    protocol,
    models: protocol !== 'frames' ? open : model === null ? [] : [model],
    model,
    tls: entry.tls ?? defaults.tls,
  };
}

function only(names: readonly string[]): string | null {
  return names.length === 1 ? (names[0] as string) : null;
}

/** Names of the models that at least one of the listeners serves. */
export function servedNames(listeners: readonly Pick<Listener, 'models'>[]): readonly string[] {
  return [...new Set(listeners.flatMap(({ models }) => models))];
}

/** Names each listener of a config by its address: the first of a host with port 0 is the same one in every config. */
export function listenerNames(listeners: readonly Pick<Listener, 'host' | 'port'>[]): readonly string[] {
  const seen = new Map<string, number>();
  return listeners.map(({ host, port }) => {
    const address = `${host} ${port}`;
    const before = seen.get(address) ?? 0;
    seen.set(address, before + 1);
    return `${address} ${before}`;
  });
}

interface Checked {
  readonly server: Pick<ServerSettings, 'lengthFieldSize' | 'maxPayloadSizeKb' | 'sharedSecret'>;
  readonly models: readonly Pick<ModelEntry, 'name' | 'backend' | 'responseSize'>[];
  readonly listeners: readonly Listener[];
}

/**
 * Sentences on listeners that cannot work as they are set.
 * @param given the entries as config has them
 * @param keyOf the name of a setting of the listener with this index, for messages
 * @param from where a setting of the server comes from: ` (from …)`
 */
export function listenerMistakes(
  { server, models, listeners }: Checked,
  given: readonly ListenerEntry[],
  keyOf: (index: number, key: 'protocol' | 'model' | 'models') => string,
  from: (key: string) => string,
): readonly string[] {
  const names = models.map(({ name }) => name);
  const unknown = (key: string, name: string): string =>
    `${key}: there is no model named ${JSON.stringify(name)}: choose one of ${names.join(', ')}, or add it to models`;
  const mistakes = listeners.flatMap(({ protocol, model }, i) => {
    const own = given[i]?.models ?? [];
    const found = [...new Set(own)]
      .filter((name) => !names.includes(name))
      .map((name) => unknown(keyOf(i, 'models'), name));
    if (protocol === 'frames' && own.length > 0)
      found.push(
        `${keyOf(i, 'models')}: in the protocol frames requests name no model, so that a listener serves one: name it with ${keyOf(i, 'model')}, or set ${keyOf(i, 'protocol')} to calls, open or auto`,
      );
    else if (model === null && takesRawFrames(protocol))
      found.push(
        `${keyOf(i, 'model')}: payloads in the protocol ${protocol} name no model, so that it needs one: choose one of ${names.join(', ')}`,
      );
    else if (model !== null && !names.includes(model) && !own.includes(model))
      found.push(unknown(keyOf(i, 'model'), model));
    else if (model !== null && own.length > 0 && !own.includes(model))
      found.push(
        `${keyOf(i, 'model')}: ${model} is not one of ${keyOf(i, 'models')}: add it there, or choose one of them`,
      );
    return found;
  });
  return [
    ...mistakes,
    ...dummyMistakes({ server, models, listeners }),
    ...autoMistakes({ server, listeners }, keyOf, from),
    ...secretMistakes({ server, listeners }, from),
  ];
}

/** A reply of a dummy that its length field cannot express; typed protocols refuse it as they refuse any other. */
function dummyMistakes({ server: { lengthFieldSize }, models, listeners }: Checked): readonly string[] {
  const limit = maxFrameLength(lengthFieldSize);
  return listeners
    .filter(({ protocol }) => takesRawFrames(protocol))
    .flatMap((listener) => models.filter(({ name }) => name === listener.model))
    .filter(({ backend, responseSize }) => backend === 'dummy' && (responseSize ?? 0) > limit)
    .map(
      ({ responseSize }) =>
        `server.responseSize: ${responseSize} bytes do not fit a length field of ${lengthFieldSize} bytes (at most ${limit}): choose less, or a larger server.lengthFieldSize`,
    );
}

/** Frames that could be taken for something else. */
function autoMistakes(
  { server: { lengthFieldSize, maxPayloadSizeKb }, listeners }: Omit<Checked, 'models'>,
  keyOf: (index: number, key: 'protocol') => string,
  from: (key: string) => string,
): readonly string[] {
  const index = listeners.findIndex(({ protocol }) => protocol === 'auto');
  if (index < 0) return [];
  const limit = maxTellableLength(lengthFieldSize);
  if (limit === null)
    return [
      `${keyOf(index, 'protocol')}: auto tells protocols apart by the first bytes of a connection, and in a length field of ${lengthFieldSize} bytes these may be any: set server.lengthFieldSize to 4 or 8, or give each protocol a port of its own in listeners`,
    ];
  const limitKb = Math.floor(limit / 1024);
  if (maxPayloadSizeKb <= limitKb) return [];
  return [
    `server.maxPayloadSizeKb${from('server.maxPayloadSizeKb')}: a frame of so many KiB may begin with the same bytes as a request in HTTP, which a listener in the protocol auto takes it for: set at most ${limitKb}, or set ${keyOf(index, 'protocol')} to something else`,
  ];
}

/** RFC 6750: what `Authorization: Bearer …` can hold. */
const bearer = /^[\w.~+/-]*=*$/;

function secretMistakes(
  { server: { sharedSecret }, listeners }: Omit<Checked, 'models'>,
  from: (key: string) => string,
): readonly string[] {
  if (bearer.test(sharedSecret) || !listeners.some(({ protocol }) => takesHttp(protocol))) return [];
  return [
    `server.sharedSecret${from('server.sharedSecret')}: clients over HTTP and gRPC send it as \`Authorization: Bearer …\`, which can hold letters, digits and any of - . _ ~ + / = (RFC 6750): choose such a secret, as of \`openssl rand -hex 32\``,
  ];
}
