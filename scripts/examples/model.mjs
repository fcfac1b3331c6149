// A model of your own: mean and standard deviation of each payload, seen as little-endian float32 numbers.
// Serve it:  npm start -- --config scripts/examples/model.json
//
// The default export is called once a worker; its `infer` gets a batch and returns a reply for each payload.

/** @type {import('ml-tcp-server/model').LoadUserModel} */
export default function load({ settings }) {
  const most = settings.maxNumbers ?? 1000;
  return {
    infer: (payloads) => payloads.map((payload) => describe(payload, most)),
  };
}

/** An Error in place of a reply fails that request alone: its client gets an empty frame. */
function describe(payload, most) {
  const count = payload.length / 4;
  if (!Number.isInteger(count) || count === 0 || count > most) return new Error(`1 to ${most} float32 numbers, please`);
  const numbers = Array.from({ length: count }, (_, i) => payload.readFloatLE(i * 4));
  const mean = numbers.reduce((sum, number) => sum + number, 0) / count;
  const variance = numbers.reduce((sum, number) => sum + (number - mean) ** 2, 0) / count;
  const reply = Buffer.alloc(8);
  reply.writeFloatLE(mean, 0);
  reply.writeFloatLE(Math.sqrt(variance), 4);
  return reply;
}
