// The TypeScript client against the model of model.mjs, ten requests pipelined over one connection.
// usage: node scripts/examples/client.mjs [HOST [PORT]]      (after `npm run build`)

import { InferenceClient, RequestFailedError } from 'ml-tcp-server/client';

const [host = '127.0.0.1', port = '8081'] = process.argv.slice(2);
const client = await InferenceClient.connect({ host, port: Number(port) });

/** Numbers as a payload: little-endian float32. */
function payloadOf(numbers) {
  const payload = Buffer.alloc(numbers.length * 4);
  numbers.forEach((number, i) => {
    payload.writeFloatLE(number, i * 4);
  });
  return payload;
}

const questions = Array.from({ length: 10 }, (_, i) => Array.from({ length: i }, (_, k) => k + 1));
const answers = await Promise.allSettled(questions.map((numbers) => client.infer(payloadOf(numbers))));
for (const [i, answer] of answers.entries()) {
  if (answer.status === 'fulfilled') {
    const { value } = answer;
    console.log(`${i} numbers: mean ${value.readFloatLE(0).toFixed(2)}, deviation ${value.readFloatLE(4).toFixed(2)}`);
  } else if (answer.reason instanceof RequestFailedError) console.log(`${i} numbers: refused`);
  else throw answer.reason;
}
await client.close();
