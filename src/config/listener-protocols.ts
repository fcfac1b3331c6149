// The protocols that a listener can be set to speak.

/**
 * `frames`: payloads of one model. `calls`: calls of the Open Inference Protocol on frames. `open`: HTTP and gRPC, told
 * apart by the first bytes of a connection. `auto`: all of these, told apart likewise.
 */
export const listenerProtocols = ['frames', 'calls', 'open', 'auto'] as const;

export type ListenerProtocol = (typeof listenerProtocols)[number];

/** Whether payloads come as they are, without the name of a model. */
export const takesRawFrames = (protocol: ListenerProtocol): boolean => protocol === 'frames' || protocol === 'auto';

export const takesHttp = (protocol: ListenerProtocol): boolean => protocol === 'open' || protocol === 'auto';

/** Whether clients may speak calls on frames; on an `open` or `auto` listener, behind the preface of that protocol. */
export const takesCalls = (protocol: ListenerProtocol): boolean => protocol !== 'frames';
