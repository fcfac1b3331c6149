// Changes inputs at random, from a seed: bytes, stretches, numbers at edges, words that the target knows.

const maxBytes = 4096;
const edges = [0, 1, 2, 3, 4, 7, 8, 9, 0x7f, 0x80, 0xfe, 0xff];

/** mulberry32: a small generator, good enough here; the same seed gives the same sequence. */
function generator(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

export function createMutator(seed, words = []) {
  const random = generator(seed);
  const below = (n) => Math.floor(random() * n);
  const pick = (list) => list[below(list.length)];
  const replaced = (input, at, length, bytes) =>
    Buffer.concat([input.subarray(0, at), bytes, input.subarray(at + length)]);
  const stretch = (input) => {
    const at = below(input.length + 1);
    return [at, below(Math.min(64, input.length - at) + 1)];
  };
  const changes = [
    (input) => replaced(input, below(input.length + 1), 1, Buffer.from([below(256)])),
    (input) => replaced(input, below(input.length + 1), 1, Buffer.from([pick(edges)])),
    (input) => replaced(input, below(input.length + 1), 0, Buffer.from([pick(edges)])),
    (input) => replaced(input, ...stretch(input), Buffer.alloc(0)),
    (input) => {
      const [at, length] = stretch(input);
      return replaced(input, at, 0, input.subarray(at, at + length));
    },
    (input) => replaced(input, below(input.length + 1), 4, Buffer.from([0, 0, below(4), below(256)])),
    (input) => replaced(input, below(input.length + 1), 0, Buffer.alloc(below(300), below(256))),
    (input, corpus) => {
      const other = pick(corpus);
      return Buffer.concat([input.subarray(0, below(input.length + 1)), other.subarray(below(other.length + 1))]);
    },
    ...(words.length === 0 ? [] : [(input) => replaced(input, ...stretch(input), Buffer.from(pick(words)))]),
  ];
  return (corpus) => {
    let input = pick(corpus);
    for (let i = 1 + below(4); i > 0; i--) input = pick(changes)(input, corpus);
    return Buffer.from(input.subarray(0, maxBytes));
  };
}
