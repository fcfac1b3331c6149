// The messages of calls on frames, as data; proto/mltcp.proto has them in the language of Protocol Buffers, and a test
// holds the two equal. As a client writes and reads them: the server reads a call with `CallDecoder`, and writes the
// reply to an inference with `ReplyEncoder`.

import {
  modelInferRequest,
  modelInferResponse,
  modelMetadataRequest,
  modelMetadataResponse,
  serverMetadataRequest,
  serverMetadataResponse,
} from '../oip/messages.js';
import { message, oneof, plain } from '../protobuf/messages.js';

export const cancel = message('mltcp.v1.Cancel', {});
export const ping = message('mltcp.v1.Ping', {});

export const call = message('mltcp.v1.Call', {
  call: plain(1, 'uint64'),
  timeout_us: plain(2, 'uint32'),
  secret: plain(3, 'string'),
  infer: oneof('body', 4, modelInferRequest),
  cancel: oneof('body', 5, cancel),
  ping: oneof('body', 6, ping),
  model_metadata: oneof('body', 7, modelMetadataRequest),
  server_metadata: oneof('body', 8, serverMetadataRequest),
});

export const reply = message('mltcp.v1.Reply', {
  call: plain(1, 'uint64'),
  code: plain(2, 'uint32'),
  reason: plain(3, 'string'),
  message: plain(4, 'string'),
  retry_after_ms: plain(5, 'uint32'),
  infer: oneof('body', 6, modelInferResponse),
  model_metadata: oneof('body', 7, modelMetadataResponse),
  server_metadata: oneof('body', 8, serverMetadataResponse),
});
