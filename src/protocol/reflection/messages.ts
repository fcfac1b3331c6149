// What a reflection client asks and is told: proto/reflection.proto, and a test holds the two equal.

import { many, message, oneof, optional, plain } from '../protobuf/messages.js';

const kind = 'message_request';

export const reflectionRequest = message('grpc.reflection.v1.ServerReflectionRequest', {
  host: plain(1, 'string'),
  file_by_filename: oneof(kind, 3, 'string'),
  file_containing_symbol: oneof(kind, 4, 'string'),
  file_containing_extension: oneof(
    kind,
    5,
    message('grpc.reflection.v1.ExtensionRequest', {
      containing_type: plain(1, 'string'),
      extension_number: plain(2, 'int32'),
    }),
  ),
  all_extension_numbers_of_type: oneof(kind, 6, 'string'),
  list_services: oneof(kind, 7, 'string'),
});

const answer = 'message_response';

export const reflectionResponse = message('grpc.reflection.v1.ServerReflectionResponse', {
  valid_host: plain(1, 'string'),
  original_request: optional(2, reflectionRequest),
  file_descriptor_response: oneof(
    answer,
    4,
    message('grpc.reflection.v1.FileDescriptorResponse', { file_descriptor_proto: many(1, 'bytes') }),
  ),
  all_extension_numbers_response: oneof(
    answer,
    5,
    message('grpc.reflection.v1.ExtensionNumberResponse', {
      base_type_name: plain(1, 'string'),
      extension_number: many(2, 'int32'),
    }),
  ),
  list_services_response: oneof(
    answer,
    6,
    message('grpc.reflection.v1.ListServiceResponse', {
      service: many(1, message('grpc.reflection.v1.ServiceResponse', { name: plain(1, 'string') })),
    }),
  ),
  error_response: oneof(
    answer,
    7,
    message('grpc.reflection.v1.ErrorResponse', {
      error_code: plain(1, 'int32'),
      error_message: plain(2, 'string'),
    }),
  ),
});
