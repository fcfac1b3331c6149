// Connections to a real Redis, in every state they pass through.

import { once } from 'node:events';
import { expect } from 'chai';
import { connectRedis } from '#src/metrics/transport/redis-connection.js';
import { endProcesses } from '../support/processes.js';
import { RedisServer, redisSettings } from '../support/redis-server.js';
import { until } from '../support/until.js';

describe('a subscription to Redis', () => {
  afterEach(endProcesses);

  for (const state of ['connecting', 'connect', 'ready'] as const) {
    it(`is there for good, also through a lost connection, when it is asked for in state "${state}"`, async () => {
      const settings = redisSettings((await RedisServer.start()).url);
      const publisher = connectRedis(settings, () => {});
      const subscriber = connectRedis(settings, () => {}, 'subscription');
      const received: string[] = [];
      subscriber.on('message', (_channel, message) => received.push(message));
      try {
        const isPublishing = once(publisher, 'ready');
        if (state !== 'connecting') await once(subscriber, state);
        const subscribed = subscriber.subscribe('news');
        await isPublishing;
        const pattern = subscriber.psubscribe('more*');
        expect(await Promise.all([subscribed, pattern])).to.have.members([1, 2]);
        await until('a message', async () => {
          await publisher.publish('news', 'first');
          return received.includes('first');
        });
        await publisher.call('CLIENT', 'KILL', 'TYPE', 'pubsub');
        await until('a message on the next connection', async () => {
          await publisher.publish('news', 'second');
          return received.includes('second');
        });
      } finally {
        publisher.disconnect();
        subscriber.disconnect();
      }
    });
  }
});
