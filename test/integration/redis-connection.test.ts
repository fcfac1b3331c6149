// Connections to a real Redis, in every state that they pass through, with everything that can break between us and it.

import { readFileSync } from 'node:fs';
import { expect } from 'chai';
import { Redis } from 'ioredis';
import {
  connectRedis,
  type RedisClient,
  type RedisProblem,
  type RedisSettings,
} from '#src/metrics/transport/redis-connection.js';
import { RedisSubscription } from '#src/metrics/transport/redis-subscription.js';
import { endProcesses } from '../support/processes.js';
import { RedisServer, redisSettings } from '../support/redis-server.js';
import { skip } from '../support/skip.js';
import { closeProxies, TcpProxy } from '../support/tcp-proxy.js';
import { until } from '../support/until.js';

const quick = { checkIntervalMs: 100, commandTimeoutMs: 300, connectTimeoutMs: 500 };
/** Time to notice, with room for a busy machine; the promise is checkIntervalMs + commandTimeoutMs. */
const soon = { timeoutMs: 5000 };

const opened: { disconnect(): void }[] = [];
const admins: Redis[] = [];

interface Link {
  readonly name: 'commands' | 'subscription';
  readonly states: string[];
  readonly problems: (RedisProblem | null)[];
  isUp(): boolean;
  /** Whether it works, checked from outside. */
  works(): Promise<boolean>;
}

/** Both kinds of connection through `url`, as in the aggregator; the echo takes the same way. */
function links(settings: RedisSettings): readonly [Link & { client: RedisClient }, Link] {
  const make = (name: Link['name']): Pick<Link, 'name' | 'states' | 'problems'> => ({ name, states: [], problems: [] });
  const [commands, subscription] = [make('commands'), make('subscription')];
  const client = connectRedis(settings, listener(commands), '{test}:check');
  const subscriber = new RedisSubscription(settings, listener(subscription), client, '{test}:echo');
  opened.push(client, subscriber);
  const heard: string[] = [];
  subscriber.on('messageBuffer', (_channel: Buffer, message: Buffer) => heard.push(message.toString()));
  void subscriber.subscribe('{test}:news');
  return [
    {
      ...commands,
      client,
      isUp: () => client.isUp,
      works: () => client.eval("return redis.call('SET', KEYS[1], '1')", 1, '{test}:key').then(Boolean, () => false),
    },
    {
      ...subscription,
      isUp: () => subscriber.isUp,
      works: async () => {
        await client.publish('{test}:news', 'hello').catch(() => {});
        return heard.splice(0).length > 0;
      },
    },
  ];
}

function listener({ states, problems }: Pick<Link, 'states' | 'problems'>) {
  return (state: string, problem: RedisProblem | null): void => {
    states.push(state);
    problems.push(problem);
  };
}

const working = (all: readonly Link[], what = 'all connections to work'): Promise<unknown> =>
  until(what, async () => (await Promise.all(all.map((link) => link.works()))).every((works) => works));

function admin(port: number): Redis {
  const redis = new Redis(port, { lazyConnect: false });
  redis.on('error', () => {});
  admins.push(redis);
  return redis;
}

describe('a connection to Redis', () => {
  afterEach(async () => {
    for (const one of opened.splice(0)) one.disconnect();
    for (const one of admins.splice(0)) one.disconnect();
    closeProxies();
    await endProcesses();
  });

  it('is missed within seconds when its peer is gone without a word, and comes back by itself', async () => {
    const proxy = await TcpProxy.start((await RedisServer.start()).port);
    const both = links(redisSettings(proxy.url, quick));
    await working(both);
    proxy.silence();
    await until('both to be missed', () => both.every((link) => !link.isUp()), soon);
    for (const link of both) {
      expect(link.states, link.name).to.deep.equal(['back', 'lost']);
      expect(link.problems.at(-1)?.reason, link.name).to.match(/no answer within 300 ms/);
    }
    // Long enough for several attempts: together they are one piece of news.
    const { taken } = proxy;
    await until('more attempts', () => proxy.taken >= taken + 4, soon);
    for (const link of both) expect(link.states, link.name).to.deep.equal(['back', 'lost']);
    proxy.leadTo(await RedisServer.start().then(({ port }) => port));
    await working(both);
    for (const link of both) expect(link.states, link.name).to.deep.equal(['back', 'lost', 'back']);
  });

  it('whose entry in a NAT was dropped is replaced, while new ones go through', async () => {
    const proxy = await TcpProxy.start((await RedisServer.start()).port);
    const both = links(redisSettings(proxy.url, quick));
    await working(both);
    proxy.forget();
    await until('both to be missed', () => both.every((link) => link.states.includes('lost')), soon);
    await working(both);
  });

  it('goes to the new master when one address fails over and leaves old connections at a replica', async () => {
    const [one, two] = [await RedisServer.start(), await RedisServer.start()];
    const proxy = await TcpProxy.start(one.port);
    const both = links(redisSettings(proxy.url, quick));
    await working(both);
    await admin(one.port).replicaof('127.0.0.1', two.port);
    proxy.leadTo(two.port);
    await working(both, 'both at the new master');
    const control = admin(two.port);
    await until('both to have left the replica', async () => {
      const list = (await control.call('CLIENT', 'LIST', 'TYPE', 'pubsub')) as string;
      return list.includes('cmd=') && (await control.exists('{test}:key')) === 1;
    });
    expect(both[0].problems.some((problem) => problem?.code === 'READONLY')).to.equal(true);
    // A message that was published at the new master arrives: the subscriber, which gets no error, has moved as well.
    expect(await control.publish('{test}:news', 'from the new master')).to.equal(1);
  });

  it('says that it has a replica, once, while there is nothing else, and why', async () => {
    const master = await RedisServer.start();
    const replica = await RedisServer.start(undefined, ['--replicaof', '127.0.0.1', String(master.port)]);
    const [commands] = links(redisSettings(replica.url, quick));
    await until('the reason', () => commands.problems.some((problem) => problem?.code === 'READONLY'), soon);
    await new Promise((resolve) => setTimeout(resolve, 10 * quick.checkIntervalMs));
    expect(commands.states.filter((state) => state === 'refusing')).to.have.lengthOf(1);
    expect(commands.problems.at(-1)).to.include({ code: 'READONLY' });
    expect(commands.problems.at(-1)?.advice).to.include('connect to the master');
    await admin(replica.port).replicaof('NO', 'ONE');
    await working([commands]);
    expect(commands.states.at(-1)).to.equal('back');
  });

  for (const [what, stop, go] of [
    [
      'stands still (SIGSTOP)',
      (redis: RedisServer) => redis.signal('SIGSTOP'),
      (r: RedisServer) => r.signal('SIGCONT'),
    ],
    ['is paused (CLIENT PAUSE)', (redis: RedisServer) => void admin(redis.port).call('CLIENT', 'PAUSE', 1500), null],
    ['sleeps (DEBUG SLEEP)', (redis: RedisServer) => void admin(redis.port).call('DEBUG', 'SLEEP', 1.5), null],
  ] as const) {
    it(`is missed when Redis ${what}, and comes back when it goes on`, async () => {
      const redis = await RedisServer.start(undefined, ['--enable-debug-command', 'yes']);
      const both = links(redisSettings(redis.url, quick));
      await working(both);
      stop(redis);
      await until('both to be missed', () => both.every((link) => !link.isUp()), soon);
      go?.(redis);
      await working(both);
    });
  }

  it('survives a proxy with nothing behind it', async () => {
    const proxy = await TcpProxy.start((await RedisServer.start()).port);
    const both = links(redisSettings(proxy.url, quick));
    await working(both);
    proxy.refuse();
    await until('both to be missed', () => both.every((link) => !link.isUp()), soon);
    const redis = await RedisServer.start();
    proxy.leadTo(redis.port);
    await working(both);
  });

  for (const [what, rules, code, affected] of [
    ['EVAL', ['-eval'], 'NOPERM', 'commands'],
    ['a command inside scripts', ['-hdel'], 'NOPERM', 'commands'],
    ['our keys', ['resetkeys', '~other'], 'NOPERM', 'commands'],
    ['SUBSCRIBE', ['-subscribe'], 'NOPERM', 'subscription'],
    ['our channels', ['resetchannels', '&other'], 'NOPERM', 'subscription'],
    ['logging in', ['off'], 'WRONGPASS', 'commands'],
    ['the old password', ['resetpass', '>other'], 'WRONGPASS', 'commands'],
  ] as const) {
    it(`says once, in the words of Redis, that its user may not use ${what} any more, and recovers`, async () => {
      const redis = await RedisServer.start();
      const control = admin(redis.port);
      const right = ['on', 'resetpass', '>secret', '~*', '&*', '+@all'];
      await control.call('ACL', 'SETUSER', 'metrics', ...right);
      const url = redis.url.replace('//', '//metrics:secret@');
      const all = links(redisSettings(url, quick));
      await working(all);
      const link = all.find(({ name }) => name === affected) as Link;
      link.states.splice(0);
      link.problems.splice(0);
      await control.call('ACL', 'SETUSER', 'metrics', ...rules);
      // A connection that is logged in stays so when only the password changes.
      if (code === 'WRONGPASS') await control.call('CLIENT', 'KILL', 'USER', 'metrics').catch(() => {});
      else if (affected === 'subscription') await control.call('CLIENT', 'KILL', 'TYPE', 'pubsub');
      await until('the reason', () => link.problems.some((problem) => problem?.code === code), soon);
      const problem = link.problems.find((one) => one?.code === code) as RedisProblem;
      expect(problem.reason).to.match(/permission|can't run|WRONGPASS/i);
      expect(problem.advice).to.not.equal('');
      const told = link.states.length;
      const begin = performance.now();
      await until('several checks', () => performance.now() - begin > 6 * quick.checkIntervalMs);
      expect(link.states).to.have.lengthOf(told);
      await control.call('ACL', 'SETUSER', 'metrics', ...right);
      await working(all);
      await until('the end of the problem', () => link.states.at(-1) === 'back');
    });
  }

  it('says that Redis is loading its data, and is there when it has', async () => {
    const redis = await RedisServer.start(undefined, ['--enable-debug-command', 'yes', '--key-load-delay', '2000']);
    const control = admin(redis.port);
    for (let i = 0; i < 600; i++) control.set(`key ${i}`, 'x'.repeat(100)).catch(() => {});
    await until('keys', async () => (await control.dbsize()) === 600);
    const [commands] = links(redisSettings(redis.url, quick));
    await working([commands]);
    control.call('DEBUG', 'RELOAD').catch(() => {});
    await until('the trouble', () => !commands.isUp(), soon);
    await working([commands]);
  });

  it('stays with a Redis whose memory is full, tells it once, and is well when there is room again', async () => {
    const redis = await RedisServer.start();
    const control = admin(redis.port);
    const [commands] = links(redisSettings(redis.url, quick));
    await working([commands]);
    const connections = async (): Promise<number> =>
      Number(/total_connections_received:(\d+)/.exec(await control.info('stats'))?.[1]);
    const before = await connections();
    await control.config('SET', 'maxmemory', '1');
    for (let i = 0; i < 8; i++) {
      expect(await commands.works()).to.equal(false);
      expect(await commands.client.call('exists', '{test}:hash')).to.equal(0);
      await new Promise((resolve) => setTimeout(resolve, quick.checkIntervalMs / 2));
    }
    expect(commands.states).to.deep.equal(['back', 'refusing']);
    expect(commands.problems.at(-1)).to.include({ code: 'OOM' });
    await control.config('SET', 'maxmemory', '0');
    await working([commands]);
    expect(commands.states).to.deep.equal(['back', 'refusing', 'back']);
    expect(await connections()).to.equal(before);
  });

  it('leaves a proxy that answers nothing but errors, again and again, and tells it once', async () => {
    const { port } = await RedisServer.start();
    const proxy = await TcpProxy.start(port);
    const [commands] = links(redisSettings(proxy.url, quick));
    await working([commands]);
    proxy.answer('-ERR upstream failure\r\n');
    await until('the loss', () => !commands.isUp(), soon);
    const { taken } = proxy;
    await until('more attempts', () => proxy.taken >= taken + 4, soon);
    expect(commands.states).to.deep.equal(['back', 'refusing']);
    expect(commands.problems.at(-1)?.reason).to.include('upstream failure');
    proxy.leadTo(port);
    await working([commands]);
  });

  it('sends nothing twice and queues nothing: what cannot be sent fails at once, with the reason', async () => {
    const proxy = await TcpProxy.start((await RedisServer.start()).port);
    const [commands] = links(redisSettings(proxy.url, quick));
    await working([commands]);
    proxy.refuse();
    await until('the loss', () => !commands.isUp(), soon);
    const failures = await Promise.allSettled(
      Array.from({ length: 3 }, () => commands.client.call('incr', '{test}:n')),
    );
    for (const failure of failures) expect(failure.status).to.equal('rejected');
    const { port } = await RedisServer.start();
    proxy.leadTo(port);
    await working([commands]);
    expect(await commands.client.call('get', '{test}:n')).to.equal(null);
  });

  it('has TCP keepalive', async function () {
    if (process.platform !== 'linux') skip(this, 'it is seen in /proc, on Linux only');
    const redis = await RedisServer.start();
    await working(links(redisSettings(redis.url, quick)));
    const remote = `:${redis.port.toString(16).toUpperCase().padStart(4, '0')}`;
    const timers = (): readonly string[] =>
      readFileSync('/proc/self/net/tcp', 'utf8')
        .split('\n')
        .map((line) => line.trim().split(/\s+/))
        .filter(([, , to, state]) => to?.endsWith(remote) && state === '01')
        .map((fields) => fields[5] as string);
    // 02: a keepalive timer runs, in hundredths of a second; Linux's default would be two hours.
    await until('two keepalive timers of ten seconds', () => {
      const found = timers().filter((timer) => timer.startsWith('02:') && Number.parseInt(timer.slice(3), 16) <= 1100);
      return found.length >= 2;
    });
  });
});

describe('a subscription to Redis', () => {
  afterEach(async () => {
    for (const one of opened.splice(0)) one.disconnect();
    await endProcesses();
  });

  it('is there for good, whenever it was asked for, also through a lost connection', async () => {
    const redis = await RedisServer.start();
    const settings = redisSettings(redis.url, quick);
    const publisher = connectRedis(settings, () => {});
    const subscriber = new RedisSubscription(settings, () => {}, publisher, 'echo');
    opened.push(publisher, subscriber);
    const received = new Set<string>();
    subscriber.on('messageBuffer', (_channel: Buffer, message: Buffer) => received.add(message.toString()));
    subscriber.on('pmessageBuffer', (_pattern: Buffer, channel: Buffer) => received.add(channel.toString()));
    await subscriber.subscribe('early');
    await until('the connection', () => subscriber.isUp);
    await subscriber.subscribe(['late', 'gone']);
    await subscriber.psubscribe('more*');
    await subscriber.unsubscribe('gone');
    const hears = async (word: string): Promise<void> => {
      received.clear();
      await until(`messages ${word}`, async () => {
        for (const channel of ['early', 'late', 'gone']) await publisher.publish(channel, `${channel} ${word}`);
        await publisher.publish('more1', word);
        return [`early ${word}`, `late ${word}`, 'more1'].every((one) => received.has(one));
      });
      expect([...received]).to.not.include(`gone ${word}`);
    };
    await hears('at first');
    await publisher.call('CLIENT', 'KILL', 'TYPE', 'pubsub');
    await until('the loss', () => !subscriber.isUp);
    await hears('on the next connection');
  });
});
