import { expect } from 'chai';
import { parseUnanswered } from '#src/worker/connections/unanswered.js';

const table = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F91 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1001 1 0000000083204160 100 0 0 10 0
   1: 01004D0A:1F91 02004D0A:A2A6 01 00000009:00000000 01:000004D2 00000006     0        0 1002 2 0000000083204160 3277 4 1 10 -1
   2: 01004D0A:1F91 02004D0A:A2A8 01 00000009:00000000 01:000000D2 00000005     0        0 1003 2 0000000083204160 3277 4 1 10 -1
   3: 01004D0A:1F91 02004D0A:A2AA 01 00000000:00000000 02:000000D2 00000000     0        9 1004 2 0000000083204160 20 4 1 10 -1
   4: 01004D0A:1F91 02004D0A:A2AC 01 00010000:00000000 04:000000D2 00000000   100        7 1005 2 0000000083204160 20 4 1 10 -1
   5: 01004D0A:1F91 02004D0A:A2AE 01 00010000:00000000 04:000000D2 00000000   100        0 1006 2 0000000083204160 20 4 1 10 -1
  16: 01004D0A:1F91 02004D0A:A2B0 01 00000009:00000000 01:000004D2 00000010     0        0 1007 2 0000000083204160 3277 4 1 10 -1
`;

describe('connections that the kernel sends to in vain', () => {
  it('are those that it has sent the same to, or asked for room, six times or more', () => {
    // 1003: fewer times. 1004: keepalive, which the kernel ends by itself. 1006: it answers, and has no room.
    expect([...parseUnanswered(table)]).to.deep.equal([1002, 1005, 1007]);
  });

  it('are none in an empty table', () => {
    expect(parseUnanswered('').size).to.equal(0);
  });
});
