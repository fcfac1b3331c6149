// A request while it is being read, and what its parameters mean. Only those are read that change something here; others
// are a client's or another server's matter. https://github.com/kserve/open-inference-protocol

import { InvalidMessage, quoted } from '../invalid-message.js';
import {
  type InferCall,
  type InferTensor,
  inputNamed,
  type ParameterValue,
  type Sequence,
  type WantedOutput,
} from './infer.js';

const none: readonly never[] = [];

export class InferCallDraft implements InferCall {
  model = '';
  version = '';
  id = '';
  timeoutUs = 0;
  priority = 0;
  sequence: Sequence | null = null;
  wantsFinalResponse = false;
  inputs: readonly InferTensor[] = none;
  outputs: readonly WantedOutput[] = none;
  isBinary: boolean;

  constructor(isBinary: boolean) {
    this.isBinary = isBinary;
  }
}

const noSequence: Sequence = { id: 0n, isStart: false, isEnd: false };

/** Takes a parameter of a request. Throws InvalidMessage when it is not what its name says. */
export function setParameter(call: InferCallDraft, name: string, value: ParameterValue): void {
  switch (name) {
    case 'timeout':
      call.timeoutUs = count(name, value, 'microseconds');
      return;
    case 'priority':
      call.priority = count(name, value, 'priority');
      return;
    case 'sequence_id':
      call.sequence = { ...(call.sequence ?? noSequence), id: sequenceId(value) };
      return;
    case 'sequence_start':
      call.sequence = { ...(call.sequence ?? noSequence), isStart: flag(name, value) };
      return;
    case 'sequence_end':
      call.sequence = { ...(call.sequence ?? noSequence), isEnd: flag(name, value) };
      return;
    case 'binary_data_output':
      call.isBinary = flag(name, value);
      return;
    case 'triton_enable_empty_final_response':
      call.wantsFinalResponse = flag(name, value);
      return;
  }
}

/** To be called after the last parameter: the sequence 0, or one without a name, is none. */
export function settleSequence(call: InferCallDraft): void {
  if (call.sequence?.id === 0n || call.sequence?.id === '') call.sequence = null;
}

/** Whether a parameter says that the data of a tensor lies elsewhere. */
export const isSharedMemory = (name: string): boolean => name === 'shared_memory_region';

export const sharedInput = (input: string): InvalidMessage =>
  new InvalidMessage(`${inputNamed(input)} lies in shared memory, which this server does not read: send its data`);

/** Throws InvalidMessage when a parameter asks for an output in a way that there is not here. */
export function checkOutputParameter(output: string, name: string, value: ParameterValue): void {
  if (isSharedMemory(name))
    throw new InvalidMessage(`output ${quoted(output)} is wanted in shared memory, which this server does not write`);
  if (name === 'classification' && value !== 0 && value !== 0n)
    throw new InvalidMessage(`output ${quoted(output)} is wanted as classification, which this server does not do`);
}

/** A parameter that is true or false. Throws InvalidMessage. */
export function flag(name: string, value: ParameterValue): boolean {
  if (typeof value !== 'boolean') throw wrong(name, 'true or false', value);
  return value;
}

function count(name: string, value: ParameterValue, unit: string): number {
  if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < 0)
    throw wrong(name, `a whole number (${unit}), 0 or more`, value);
  return value;
}

function sequenceId(value: ParameterValue): bigint | string {
  if (typeof value === 'bigint' || typeof value === 'string') return value;
  if (typeof value !== 'number' || !Number.isSafeInteger(value))
    throw wrong('sequence_id', 'a whole number or a text', value);
  return BigInt(value);
}

const wrong = (name: string, expected: string, value: ParameterValue): InvalidMessage =>
  new InvalidMessage(
    `the parameter ${name} should be ${expected}, and is ${typeof value === 'string' ? quoted(value) : value}`,
  );
