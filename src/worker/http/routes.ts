// The paths of the HTTP API, one row for each: those of the Open Inference Protocol, and those that Triton's clients ask
// for beside them. What is served, what methods a path has, and the OpenAPI description come from this table.

export type Operation =
  | 'serverMetadata'
  | 'live'
  | 'ready'
  | 'modelMetadata'
  | 'modelReady'
  | 'modelConfig'
  | 'statistics'
  | 'infer'
  | 'repositoryIndex'
  | 'noRegions'
  | 'noSettings'
  | 'openApi'
  | 'notServed';

export interface Route {
  readonly method: 'GET' | 'POST';
  /** `{model}` and `{version}` stand for what the client names. */
  readonly path: string;
  readonly operation: Operation;
  readonly summary: string;
  /** Whether it is answered without the shared secret: probes have none. */
  readonly isFree?: true;
}

/** Each path below a model, and the same below one of its versions. */
const ofModels = (
  [
    ['GET', '', 'modelMetadata', 'What the model takes and answers.'],
    ['GET', '/ready', 'modelReady', 'Whether the model is served.'],
    ['GET', '/config', 'modelConfig', "The model's configuration, as Triton has it."],
    ['GET', '/stats', 'statistics', 'What the whole node has counted for the model.'],
    ['POST', '/infer', 'infer', 'Asks the model: JSON, or JSON and the bytes of tensors behind it.'],
  ] as const
).flatMap(([method, rest, operation, summary]) =>
  ['', '/versions/{version}'].map((version): Route => {
    const path = `/v2/models/{model}${version}${rest}`;
    return { method, path, operation, summary };
  }),
);

/** What Triton does on request, and here config does. */
const notServed = [
  '/v2/repository/models/{model}/load',
  '/v2/repository/models/{model}/unload',
  '/v2/models/{model}/generate',
  '/v2/models/{model}/generate_stream',
  '/v2/systemsharedmemory/region/{region}/register',
  '/v2/systemsharedmemory/region/{region}/unregister',
  '/v2/systemsharedmemory/unregister',
  '/v2/cudasharedmemory/region/{region}/register',
  '/v2/cudasharedmemory/region/{region}/unregister',
  '/v2/cudasharedmemory/unregister',
  '/v2/models/{model}/trace/setting',
].map((path): Route => ({ method: 'POST', path, operation: 'notServed', summary: 'Not served.' }));

export const routes: readonly Route[] = [
  {
    method: 'GET',
    path: '/v2',
    operation: 'serverMetadata',
    summary: 'The name and version of the server, and what extensions of the protocol it has.',
  },
  { method: 'GET', path: '/v2/health/live', operation: 'live', summary: 'Whether the server runs.', isFree: true },
  {
    method: 'GET',
    path: '/v2/health/ready',
    operation: 'ready',
    summary: 'Whether new requests are welcome.',
    isFree: true,
  },
  {
    method: 'GET',
    path: '/v2/models/stats',
    operation: 'statistics',
    summary: 'What the whole node has counted for each model.',
  },
  ...ofModels,
  {
    method: 'POST',
    path: '/v2/repository/index',
    operation: 'repositoryIndex',
    summary: 'The models that are served.',
  },
  {
    method: 'GET',
    path: '/v2/systemsharedmemory/status',
    operation: 'noRegions',
    summary: 'Regions of shared memory: there are none.',
  },
  {
    method: 'GET',
    path: '/v2/cudasharedmemory/status',
    operation: 'noRegions',
    summary: 'Regions of shared memory: there are none.',
  },
  { method: 'GET', path: '/v2/trace/setting', operation: 'noSettings', summary: 'Settings of traces: there are none.' },
  { method: 'GET', path: '/v2/logging', operation: 'noSettings', summary: 'Settings of logs: config has them.' },
  { method: 'GET', path: '/v2/openapi.json', operation: 'openApi', summary: 'This description.' },
  ...notServed,
];

/** A path that there is. */
export interface Match {
  /** What the method does; null: the path does not have it. */
  readonly route: Route | null;
  /** Methods that the path has. */
  readonly allow: string;
  /** What the path names; empty: nothing. */
  readonly model: string;
  readonly version: string;
}

const maxRemembered = 512;
const maxPathLength = 2048;
const segmented = routes.map((route) => ({ route, segments: route.path.split('/') }));
/** By method and URL: a client asks for few of them, many times. */
const remembered = new Map<string, Map<string, Match>>();

/** Null when there is no such path. */
export function matchRoute(method: string, url: string): Match | null {
  const known = remembered.get(method)?.get(url);
  if (known !== undefined) return known;
  const match = findRoute(method, url);
  if (match?.route != null && url.length <= maxPathLength) remember(method, url, match);
  return match;
}

function remember(method: string, url: string, match: Match): void {
  let urls = remembered.get(method);
  if (urls === undefined || urls.size >= maxRemembered) {
    urls = new Map();
    remembered.set(method, urls);
  }
  urls.set(url, match);
}

function findRoute(method: string, url: string): Match | null {
  // To a proxy, clients write the whole URL.
  const [path = ''] = url.replace(/^https?:\/\/[^/?]*/i, '').split('?', 1);
  if (path.length > maxPathLength) return null;
  const asked = decoded(path.replace(/(?<=.)\/$/, '').split('/'));
  if (asked === null) return null;
  const found = segmented.filter(({ segments }) => isAlike(segments, asked));
  const [first] = found;
  if (first === undefined) return null;
  // `{model}` also stands for words that have a path of their own.
  const here = found.filter(({ route }) => route.path === first.route.path);
  const methods = here.flatMap(({ route }) => (route.method === 'GET' ? ['GET', 'HEAD'] : [route.method]));
  const wanted = method === 'HEAD' ? 'GET' : method;
  const part = (name: string): string => asked[first.segments.indexOf(name)] ?? '';
  return {
    route: here.find(({ route }) => route.method === wanted)?.route ?? null,
    allow: methods.join(', '),
    model: part('{model}'),
    version: part('{version}'),
  };
}

const isAlike = (segments: readonly string[], asked: readonly string[]): boolean =>
  segments.length === asked.length &&
  segments.every((segment, i) => (segment.startsWith('{') ? asked[i] !== '' : segment === asked[i]));

function decoded(segments: readonly string[]): readonly string[] | null {
  try {
    return segments.map(decodeURIComponent);
  } catch {
    return null;
  }
}
