/** What the scenarios do not say: the cases of node-redlock's tests for one server, and what is special to Node. */

import assert from 'node:assert/strict';
import { createConnection } from 'node:net';
import { after, before, beforeEach, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Lock, LockBusyError, LockLostError, Locks, type RedisClient } from 'fencelock';
import { Cluster } from 'ioredis';
import { createCluster } from 'redis';
import { CLIENTS, type Connected, Proxy, Server, type World, forEachClient, until } from './support.js';

/** Runs the body with locks on a new client, and looks that nothing is left of them. */
async function using(connecting: Promise<Connected>, at: Server, body: (locks: Locks, client: RedisClient) => Promise<unknown>): Promise<void> {
  const { client, close } = await connecting;
  const locks = new Locks(client);
  try {
    await body(locks, client);
    await until('nothing is left', () => at.idle('k', 'l', 'm'), 2000);
  } finally {
    await locks.close();
    close();
  }
}

const left = ({ server }: World, lock: Lock, key = 'k') => server.cmd('LOCK.CHECK', key, lock.owner);
const tellsOf = (reason: string) => (error: unknown) => error instanceof LockLostError && error.reason === reason;

forEachClient('locks', (world) => {
  beforeEach(() => world.server.cmd('FLUSHALL'));
  const on = (body: (locks: Locks, client: RedisClient) => Promise<unknown>, options?: object) =>
    using(world.connect(world.server.port, options), world.server, body);

  // The cases of node-redlock, in its words.

  test(`acquires, extends, and releases a single lock`, () => on(async (locks) => {
    const lock = await locks.acquire('k', { lease: 10_000 });
    assert((await left(world, lock)) > 9000 && (await left(world, lock)) <= 10_000);
    await lock.extend(50_000);
    assert((await left(world, lock)) > 49_000);
    await lock.release();
    assert.equal(await world.server.cmd('EXISTS', 'k'), 0);
  }));

  test(`acquires, extends, and releases a multi-resource lock`, () => on(async (locks) => {
    const lock = await locks.acquire(['k', 'l'], { lease: 10_000 });
    for (const key of ['k', 'l']) assert((await left(world, lock, key)) > 9000);
    await lock.extend(50_000);
    for (const key of ['k', 'l']) assert((await left(world, lock, key)) > 49_000);
    await lock.release();
    assert.equal(await world.server.cmd('EXISTS', 'k', 'l'), 0);
  }));

  test(`locks fail when redis is unreachable, and the process goes on`, async () => {
    const other = await Server.start();
    const { client, close } = await world.connect(other.port);
    const locks = new Locks(client);
    await other.stop();
    await assert.rejects(locks.tryAcquire('k'), /no reply|ECONNREFUSED|closed/i);
    await assert.rejects(locks.acquire('k', { wait: 500 }), /no reply|ECONNREFUSED|closed/i);
    await locks.close();
    close();
  });

  test(`locks automatically expire`, () => on(async (locks) => {
    const first = await locks.acquire('k', { lease: 200, renew: false });
    const second = await locks.acquire('k', { lease: 200, renew: false });
    assert(second.fence > first.fence);
    await assert.rejects(first.release(), LockLostError);
    await second.release();
  }));

  test(`individual locks are exclusive`, () => on(async (locks) => {
    const lock = await locks.acquire('k');
    assert.equal(await locks.tryAcquire('k'), null);
    await assert.rejects(locks.acquire('k', { wait: 100 }), LockBusyError);
    await lock.release();
    await (await locks.tryAcquire('k'))!.release();
  }));

  test(`overlapping multi-locks are exclusive`, () => on(async (locks) => {
    const lock = await locks.acquire(['k', 'l']);
    await assert.rejects(locks.acquire(['l', 'm'], { wait: 100 }), LockBusyError);
    await lock.release();
    await (await locks.acquire(['l', 'm'])).release();
  }));

  test(`the \`using\` helper acquires, extends, and releases locks`, () => on(async (locks) => {
    const result = await locks.using('k', { lease: 500 }, async ({ fence, signal }) => {
      await sleep(1200);
      assert(!signal.aborted);
      assert.equal(typeof fence, 'bigint');
      return 'done';
    });
    assert.equal(result, 'done');
    assert.equal(await world.server.cmd('EXISTS', 'k'), 0);
  }));

  test(`the \`using\` helper is exclusive`, () => on(async (locks) => {
    let inside = 0;
    await Promise.all(Array.from({ length: 20 }, () => locks.using(['k', 'l'], async () => {
      assert.equal(++inside, 1);
      await sleep(2);
      inside -= 1;
    })));
  }));

  // Waiting.

  test(`in default settings it waits for a lock held for 7 s, in order with patient clients`, () => inOrder(world.server, world.connect(world.server.port)));

  test(`who waits blocks nothing that others share`, () => on(async (locks, client) => {
    const lock = await locks.acquire('k');
    const waits = Array.from({ length: 50 }, () => locks.using('k', () => {}));
    await until('50 wait', async () => (await world.server.waiting('k')) === 50);
    assert.match(await world.server.admin.info('clients'), /blocked_clients:0/);
    const start = performance.now();
    await ('call' in client ? client.call('PING') : client.sendCommand(['PING']));
    assert(performance.now() - start < 1000);
    await lock.release();
    await Promise.all(waits);
  }));

  test(`a user that may not hear messages waits all the same`, async () => {
    await world.server.cmd('ACL', 'SETUSER', 'deaf', 'on', '>pw', '~*', 'resetchannels', '+@all');
    await on(async (locks) => {
      const lock = await locks.acquire('k');
      const waits = [1, 2, 3].map(() => locks.using('k', ({ fence }) => fence));
      await until('3 wait', async () => (await world.server.waiting('k')) === 3);
      await lock.release();
      const fences = await Promise.all(waits);
      assert(fences[0]! < fences[1]! && fences[1]! < fences[2]!);
    }, { username: 'deaf', password: 'pw' });
  });

  test(`a signal ends the wait at once, with its own reason`, () => on(async (locks) => {
    const lock = await locks.acquire('k');
    const start = performance.now();
    await assert.rejects(locks.acquire('k', { signal: AbortSignal.timeout(200) }), { name: 'TimeoutError' });
    assert(performance.now() - start < 1000);
    assert.equal(await world.server.waiting('k'), 0);
    await assert.rejects(locks.acquire('l', { signal: AbortSignal.abort(new Error('before')) }), /before/);
    await lock.release();
  }));

  // Loss, and the end.

  test(`a loss ends the work and is not silent`, () => on(async (locks) => {
    await assert.rejects(locks.using('k', { lease: 900 }, async ({ signal }) => {
      await world.server.cmd('LOCK.BREAK', 'k');
      await until('it is told', () => signal.aborted, 1000);
      assert.equal(signal.reason.reason, 'broken');
    }), tellsOf('broken'));
    await assert.rejects(locks.using('k', () => { throw new Error('at work'); }), /at work/);
  }));

  test(`one of several locks is lost, and the others are given back`, () => on(async (locks) => {
    const lock = await locks.acquire(['k', 'l']);
    await world.server.cmd('LOCK.BREAK', 'l');
    await assert.rejects(lock.release(), tellsOf('broken'));
  }));

  test(`close ends waits and holds, and the client stays open`, () => on(async (locks, client) => {
    const lock = await locks.acquire('k');
    const wait = assert.rejects(locks.acquire('k'), { code: 'CLOSED' });
    await until('it waits', async () => (await world.server.waiting('k')) === 1);
    await locks.close();
    await wait;
    assert.equal(lock.signal.reason.reason, 'closed');
    await assert.rejects(locks.acquire('k'), { code: 'CLOSED' });
    await ('call' in client ? client.call('PING') : client.sendCommand(['PING']));
  }));

  test(`whoever listens to the signal has the lock`, () => on(async (locks) => {
    let told: unknown;
    (await locks.acquire('k', { lease: 600 })).signal.addEventListener('abort', (event) => { told = event; });
    for (let turn = 0; turn < 5; turn += 1) {
      await sleep(200);
      (globalThis as any).gc();
    }
    assert.equal((await world.server.holders('k')).length, 1);
    await world.server.cmd('LOCK.BREAK', 'k');
    await until('it is told', () => told, 1000);
  }));
});

/** P, Q, R and S wait one after the other: P and R by the library, Q and S on sockets of their own that wait for ever. */
async function inOrder(server: Server, connecting: Promise<Connected>): Promise<void> {
  await using(connecting, server, async (locks) => {
    await server.cmd('LOCK.ACQUIRE', 'k', 'other', 'PX', 60_000);
    const order: string[] = [];
    const all: Promise<unknown>[] = [];
    for (const [i, who] of ['P', 'Q', 'R', 'S'].entries()) {
      all.push(i % 2 === 0 ? locks.using('k', () => { order.push(who); }) : patient(server, who, order));
      await until(`${who} is in line`, async () => (await server.waiting('k')) === i + 1);
    }
    await sleep(7000);
    await server.cmd('LOCK.RELEASE', 'k', 'other');
    await Promise.all(all);
    assert.deepEqual(order, ['P', 'Q', 'R', 'S']);
  });
}

async function patient(server: Server, who: string, order: string[]): Promise<void> {
  const socket = createConnection(server.port, '127.0.0.1');
  socket.write(`LOCK.ACQUIRE k ${who} BLOCK 0\r\n`);
  await new Promise((resolve) => socket.once('data', resolve));
  order.push(who);
  socket.end(`LOCK.RELEASE k ${who}\r\n`);
}

const CLUSTERS: Record<string, (port: number) => Promise<Connected>> = {
  'ioredis cluster': async (port) => {
    const client = new Cluster([{ host: '127.0.0.1', port }], { lazyConnect: true });
    await client.connect();
    return { client, close: () => client.disconnect() };
  },
  'node-redis cluster': async (port) => {
    const client = createCluster({ rootNodes: [{ socket: { host: '127.0.0.1', port } }] });
    await client.connect();
    return { client, close: () => client.destroy() };
  },
};

describe('one client or another', { concurrency: 1 }, () => {
  let server: Server;
  before(async () => { server = await Server.start(); });
  after(() => server.stop());
  beforeEach(() => server.cmd('FLUSHALL'));

  // ioredis with commandTimeout gives up the call, and keeps the connection: the server may grant what nobody waits for any more.

  const timed = (port: number) => CLIENTS['ioredis 5']!(port, { commandTimeout: 150 });

  test('ioredis with commandTimeout: waits for a lock held for 7 s, in order with patient clients', () => inOrder(server, timed(server.port)));

  test('ioredis with commandTimeout: a call that was given up leaves no orphaned grant', async () => {
    const proxy = await Proxy.start(server.port);
    try {
      for (const fault of ['delay', 'hold']) {
        await using(timed(proxy.port), server, async (locks) => {
          await proxy.tell(`fault LOCK.ACQUIRE ${fault} 400`);
          await locks.using('k', async ({ owner }) => assert.deepEqual(await server.holders('k'), [owner]));
          await proxy.tell(`fault LOCK.ACQUIRE ${fault} 400`);
          await assert.rejects(locks.acquire('k', { signal: AbortSignal.timeout(50) }));
          await proxy.tell(`fault LOCK.ACQUIRE ${fault} 400`);
          await assert.rejects(locks.acquire('k', { wait: 50 }));
          await sleep(500);
        });
      }
    } finally {
      await proxy.stop();
    }
  });

  test('fences are exact, whatever the client makes of numbers', async () => {
    const ways = [CLIENTS['ioredis 5']!(server.port, { stringNumbers: true }), CLIENTS['node-redis 5']!(server.port, { RESP: 3 })];
    for (const way of ways) {
      await using(way, server, async (locks) => {
        const lock = await locks.acquire('k', { limit: 2, permits: 2, lease: 900 });
        assert.match(String(lock.fence), /^[0-9]{16}$/);
        await assert.rejects(locks.acquire('k', { limit: 2, wait: 50 }), LockBusyError);
        await server.cmd('LOCK.BREAK', 'k');
        await until('it is told', () => lock.signal.aborted, 1000);
        assert.equal(lock.lost, 'broken');
      });
    }
  });

  test('clusters', async (t) => {
    const cluster = await Server.start('--cluster-enabled', 'yes', '--cluster-announce-ip', '127.0.0.1');
    await cluster.cmd('CLUSTER', 'ADDSLOTSRANGE', 0, 16383);
    await until('the cluster is up', async () => /state:ok/.test(await cluster.cmd('CLUSTER', 'INFO')));
    for (const [name, connect] of Object.entries(CLUSTERS)) {
      await t.test(name, () => using(connect(cluster.port), cluster, async (locks) => {
        const order: number[] = [];
        const lock = await locks.acquire('k', { lease: 600 });
        const waits = [1, 2, 3].map((n) => locks.using('k', () => { order.push(n); }));
        await until('3 wait', async () => (await cluster.waiting('k')) === 3);
        await sleep(1000);
        await lock.release();
        await Promise.all(waits);
        assert.deepEqual(order, [1, 2, 3]);
        await locks.using(['{k}1', '{k}2'], async () => {});
      }));
    }
    await cluster.stop();
  });
});
