// Writes src/protocol/reflection/descriptors.ts from the .proto files: `node scripts/descriptors.mjs`. A test fails when
// the two differ.

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import protobuf from 'protobufjs';
import 'protobufjs/ext/descriptor/index.js';

const root = fileURLToPath(new URL('..', import.meta.url));
export const target = join(root, 'src/protocol/reflection/descriptors.ts');
const files = ['inference.proto', 'health.proto', 'reflection.proto', 'reflection_v1alpha.proto'];

/** All names in a namespace that a client may ask for. */
function namesIn(parent) {
  return parent.nestedArray.flatMap((item) => {
    const name = item.fullName.slice(1);
    if (item instanceof protobuf.Service) return [name, ...item.methodsArray.map((method) => `${name}.${method.name}`)];
    if (item instanceof protobuf.Type) return [name, ...namesIn(item)];
    return item instanceof protobuf.Enum ? [name] : namesIn(item);
  });
}

/** protobufjs leaves names of types relative, and calls the entries of maps by names that other libraries refuse. */
function mend(message, type) {
  for (const field of message.field) {
    const { resolvedType, map } = type.fields[field.name];
    const entry = `${field.name[0].toUpperCase()}${field.name.slice(1)}`;
    if (map) {
      const [own, ...doubles] = message.nestedType.filter(({ name }) => name === entry);
      message.nestedType = message.nestedType.filter((nested) => !doubles.includes(nested));
      own.name = `${entry}Entry`;
      own.field[1].typeName = resolvedType.fullName;
      field.typeName = `${type.fullName}.${own.name}`;
    } else if (resolvedType) field.typeName = resolvedType.fullName;
  }
  for (const nested of message.nestedType) if (!nested.options?.mapEntry) mend(nested, type.nested[nested.name]);
}

export function descriptors() {
  const rows = files.map((file) => {
    const one = new protobuf.Root();
    one.resolvePath = (_, path) => join(root, 'src/protocol/proto', path);
    one.loadSync(file, { keepCase: true });
    one.resolveAll();
    const { file: set } = one.toDescriptor('proto3');
    const found = set.filter(({ messageType, service }) => messageType.length + service.length > 0);
    if (found.length !== 1) throw new Error(`${file} has ${found.length} packages`);
    const [descriptor] = found;
    descriptor.name = file;
    for (const message of descriptor.messageType)
      mend(message, one.lookupType(`${descriptor.package}.${message.name}`));
    const bytes = Buffer.from(descriptor.constructor.encode(descriptor).finish());
    return { file, names: namesIn(one), bytes };
  });
  const text = rows.map(({ file, names, bytes }) => {
    const lines = bytes.toString('base64').match(/.{1,112}/g);
    return `  {\n    file: '${file}',\n    names: [\n${names.map((name) => `      '${name}',\n`).join('')}    ],\n    descriptor: [\n${lines.map((line) => `      '${line}',\n`).join('')}    ],\n  },\n`;
  });
  return `// Made by scripts/descriptors.mjs from the .proto files; not to be changed by hand.

export interface ProtoFile {
  readonly file: string;
  /** Of its services, methods, messages and enums. */
  readonly names: readonly string[];
  /** A google.protobuf.FileDescriptorProto in base64, in pieces. */
  readonly descriptor: readonly string[];
}

export const protoFiles: readonly ProtoFile[] = [
${text.join('')}];
`;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) writeFileSync(target, descriptors());
