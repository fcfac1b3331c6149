// Which form of /metrics an Accept header asks for. Parameters other than q are ignored: Prometheus sends versions
// and escaping schemes that need not match ours for the format to be the right one.

export type MetricsForm = 'json' | 'prometheus' | 'openmetrics';

const forms: Readonly<Record<string, MetricsForm>> = {
  'application/json': 'json',
  'application/openmetrics-text': 'openmetrics',
  'text/plain': 'prometheus',
  '*/*': 'json',
};

/** JSON when the client asks for nothing that we have, as browsers and curl do. */
export function negotiate(accept: string | undefined): MetricsForm {
  const wanted = (accept ?? '*/*').split(',', 32).flatMap((range) => {
    const [type = '', ...parameters] = range.split(';').map((part) => part.trim().toLowerCase());
    const form = forms[type];
    const quality = Number(parameters.find((parameter) => parameter.startsWith('q='))?.slice(2) ?? 1);
    return form !== undefined && quality > 0 ? { form, quality } : [];
  });
  // Sorting is stable: of equals, the one named first.
  return wanted.sort((a, b) => b.quality - a.quality)[0]?.form ?? 'json';
}
