// What settings of a model's tensors must look like; the types are in inference/overrides.ts.

type Check = (value: unknown) => boolean;

const isObject = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);
const isWhole: Check = (value) => Number.isSafeInteger(value) && (value as number) >= 0;
const isName: Check = (value) => typeof value === 'string' && value !== '';

/** Whether an object has no keys but these, and a fitting value for each that it has. */
const hasOnly = (value: unknown, keys: Readonly<Record<string, Check>>): boolean =>
  isObject(value) && Object.entries(value).every(([key, one]) => Object.hasOwn(keys, key) && keys[key]?.(one) === true);

const isObjectOf =
  (isFitting: Check): Check =>
  (value) =>
    isObject(value) && Object.values(value).every(isFitting);
const isListOf =
  (isFitting: Check): Check =>
  (value) =>
    Array.isArray(value) && value.every(isFitting);

const isBatchAxis: Check = (value) => value === 'shared' || value === 'none' || isWhole(value);
const isDim: Check = (value) => value === null || value === -1 || isName(value) || isWhole(value);

export const isTensorInputs = isObjectOf((input) => hasOnly(input, { batchAxis: isBatchAxis, shape: isListOf(isDim) }));

const isReturned: Check = (value) => typeof value === 'boolean';
const isOutput: Check = (output) => hasOnly(output, { batchAxis: isBatchAxis, returned: isReturned });
export const isTensorOutputs: Check = (value) => isListOf(isName)(value) || isObjectOf(isOutput)(value);

const isLiteral: Check = (value) =>
  Array.isArray(value) ? value.every(isLiteral) : ['number', 'string', 'boolean'].includes(typeof value);
export const isConstants = isObjectOf(isLiteral);

const isAscending: Check = (value) =>
  Array.isArray(value) && value.length > 0 && value.every((size, i) => isWhole(size) && size > (value[i - 1] ?? 0));

export const isPad: Check = (value) =>
  value === null ||
  (hasOnly(value, {
    axis: isWhole,
    inputs: (inputs) => isListOf(isName)(inputs) && (inputs as unknown[]).length > 0,
    mask: isName,
    buckets: isAscending,
    value: (padding) => typeof padding === 'number',
    outputs: isObjectOf(isWhole),
  }) &&
    ['axis', 'inputs', 'buckets', 'outputs'].every((key) => Object.hasOwn(value as object, key)));
