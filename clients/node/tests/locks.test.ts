/** What the scenarios do not say: the cases of node-redlock's tests for one server, and what is special to Node. */

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { createConnection } from 'node:net';
import { after, before, beforeEach, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { type Lock, LockBusyError, LockLostError, Locks, type RedisClient } from 'fencelock';
import { createSentinel } from 'redis';
import { CLIENTS, type Connected, DEPLOYED, Deployment, Proxy, Seen, Server, type World, forEachClient, freePort, looks, until } from './support.js';

/** Runs the body with locks on a new client, and looks that nothing is left of them. */
async function using(connecting: Promise<Connected>, at: Seen, body: (locks: Locks, client: RedisClient) => Promise<unknown>): Promise<void> {
  const { client, close } = await connecting;
  const locks = new Locks(client);
  try {
    await body(locks, client);
    await until('nothing is left', () => at.idle('k', 'l', 'm'), 4000); // a ticket lasts 5 s
  } finally {
    await locks.close();
    close();
  }
}

/** Empty, and a turn waits for a slow machine: the order does not depend on its speed. */
async function fresh(server: Server): Promise<void> {
  await server.cmd('CONFIG', 'SET', 'lock.claim-ms', 10_000);
  await server.cmd('FLUSHALL');
}

const left = ({ server }: World, lock: Lock, key = 'k') => server.cmd('LOCK.CHECK', key, lock.owner);
const tellsOf = (reason: string) => (error: unknown) => error instanceof LockLostError && error.reason === reason;

forEachClient('locks', (world) => {
  beforeEach(() => fresh(world.server));
  const on = (body: (locks: Locks, client: RedisClient) => Promise<unknown>, options?: object) =>
    using(world.connect(world.server.port, options), world.server, body);

  // The cases of node-redlock, in its words.

  test('acquires, extends, and releases a single lock', () => on(async (locks) => {
    const lock = await locks.acquire('k', { lease: 10_000 });
    const ms = await left(world, lock);
    assert(ms > 0 && ms <= 10_000);
    await lock.extend(500_000);
    assert((await left(world, lock)) > 400_000);
    await lock.release();
    assert.equal(await world.server.cmd('EXISTS', 'k'), 0);
  }));

  test('acquires, extends, and releases a multi-resource lock', () => on(async (locks) => {
    const lock = await locks.acquire(['k', 'l'], { lease: 10_000 });
    for (const key of ['k', 'l']) assert((await left(world, lock, key)) > 0);
    await lock.extend(500_000);
    for (const key of ['k', 'l']) assert((await left(world, lock, key)) > 400_000);
    await lock.release();
    assert.equal(await world.server.cmd('EXISTS', 'k', 'l'), 0);
  }));

  test('locks fail when redis is unreachable, and the process goes on', async () => {
    const other = await Server.start();
    const { client, close } = await world.connect(other.port);
    const locks = new Locks(client);
    await other.stop();
    await assert.rejects(locks.tryAcquire('k'), /no reply|ECONNREFUSED|closed/i);
    await assert.rejects(locks.acquire('k', { wait: 500 }), /no reply|ECONNREFUSED|closed/i);
    await locks.close();
    close();
  });

  test('locks automatically expire', () => on(async (locks) => {
    const first = await locks.acquire('k', { lease: 200, renew: false });
    const second = await locks.acquire('k');
    assert(second.fence > first.fence);
    await assert.rejects(first.release(), LockLostError);
    await second.release();
  }));

  test('individual locks are exclusive', () => on(async (locks) => {
    const lock = await locks.acquire('k');
    assert.equal(await locks.tryAcquire('k'), null);
    await assert.rejects(locks.acquire('k', { wait: 100 }), LockBusyError);
    await lock.release();
    await (await locks.tryAcquire('k'))!.release();
  }));

  test('overlapping multi-locks are exclusive', () => on(async (locks) => {
    const lock = await locks.acquire(['k', 'l']);
    await assert.rejects(locks.acquire(['l', 'm'], { wait: 100 }), LockBusyError);
    await lock.release();
    await (await locks.acquire(['l', 'm'])).release();
  }));

  test('the `using` helper acquires, extends, and releases locks', () => on(async (locks) => {
    const { server } = world;
    const result = await locks.using('k', { lease: 6000 }, async ({ fence, signal }) => {
      const before = await server.renewals();
      await until('it is renewed twice', async () => (await server.renewals()) > before + 1);
      assert(!signal.aborted);
      assert.equal(typeof fence, 'bigint');
      return 'done';
    });
    assert.equal(result, 'done');
    assert.equal(await world.server.cmd('EXISTS', 'k'), 0);
  }));

  test('the `using` helper is exclusive', () => on(async (locks) => {
    let inside = 0;
    await Promise.all(Array.from({ length: 20 }, () => locks.using(['k', 'l'], async () => {
      assert.equal(++inside, 1);
      await sleep(2);
      inside -= 1;
    })));
  }));

  test('readers share, permits are counted, and `await using` gives back', () => on(async (locks) => {
    {
      await using reader = await locks.acquire('k', { shared: true });
      await using other = await locks.acquire('k', { shared: true });
      await using two = await locks.acquire('l', { limit: 3, permits: 2 });
      await using third = await locks.acquire('l', { limit: 3 });
      assert(!(reader.lost || other.lost || two.lost || third.lost));
      assert.equal(await locks.tryAcquire('k'), null);
      assert.equal(await locks.tryAcquire('l', { limit: 3 }), null);
    }
    assert(await world.server.idle('k', 'l'));
    await using writer = await locks.acquire('k');
    assert.equal(await locks.tryAcquire('k', { shared: true }), null);
    assert(await writer.held());
  }));

  // Waiting.

  test('in default settings it waits for a lock held for 7 s, in order with patient clients', () => inOrder(world.server, world.connect(world.server.port)));

  test('who waits blocks nothing that others share', () => on(async (locks, client) => {
    const lock = await locks.acquire('k');
    const waits = Array.from({ length: 50 }, () => locks.using('k', () => {}));
    await until('50 wait', async () => (await world.server.waiting('k')) === 50);
    assert.match(await world.server.admin.info('clients'), /blocked_clients:0/);
    await ('call' in client ? client.call('PING') : client.sendCommand(['PING']));
    await lock.release();
    await Promise.all(waits);
  }));

  test('a user that may not hear messages waits all the same', async () => {
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

  test('a signal ends the wait at once, with its own reason', () => on(async (locks) => {
    const lock = await locks.acquire('k');
    await assert.rejects(locks.acquire('k', { signal: AbortSignal.timeout(200) }), { name: 'TimeoutError' });
    assert.equal(await world.server.waiting('k'), 0);
    await assert.rejects(locks.acquire('l', { signal: AbortSignal.abort(new Error('before')) }), /before/);
    await lock.release();
  }));

  // Loss, and the end.

  test('a wait behind somebody who blocks the client leaves nothing', () => on(async (locks, client) => {
    await world.server.cmd('LOCK.ACQUIRE', 'k', 'other');
    const blocked = 'call' in client ? client.call('BLPOP', 'list', '0') : client.sendCommand(['BLPOP', 'list', '0']);
    await assert.rejects(locks.acquire('k', { signal: AbortSignal.timeout(3000) }), { name: 'TimeoutError' });
    await world.server.cmd('LOCK.RELEASE', 'k', 'other');
    await world.server.cmd('RPUSH', 'list', 'x'); // and only now the first request reaches the server
    await blocked;
    await sleep(50);
  }));

  test('a loss ends the work and is not silent', () => on(async (locks) => {
    await assert.rejects(locks.using('k', { lease: 6000 }, async ({ signal }) => {
      await world.server.cmd('LOCK.BREAK', 'k');
      await until('it is told', () => signal.aborted);
      assert.equal(signal.reason.reason, 'broken');
    }), tellsOf('broken'));
    await assert.rejects(locks.using('k', () => { throw new Error('at work'); }), /at work/);
  }));

  test('one of several locks is lost, and the others are given back', () => on(async (locks) => {
    const lock = await locks.acquire(['k', 'l']);
    await world.server.cmd('LOCK.BREAK', 'l');
    await assert.rejects(lock.release(), tellsOf('broken'));
  }));

  test('close ends waits and holds, and the client stays open', () => on(async (locks, client) => {
    const lock = await locks.acquire('k');
    const wait = assert.rejects(locks.acquire('k'), { code: 'CLOSED' });
    await until('it waits', async () => (await world.server.waiting('k')) === 1);
    await locks.close();
    await wait;
    assert.equal(lock.signal.reason.reason, 'closed');
    await assert.rejects(locks.acquire('k'), { code: 'CLOSED' });
    await ('call' in client ? client.call('PING') : client.sendCommand(['PING']));
  }));

  test('a limit of 0 and a limit for readers are refused', () => on(async (locks) => {
    await assert.rejects(locks.acquire('k', { limit: 0 }), RangeError);
    await assert.rejects(locks.acquire('k', { limit: 2, shared: true }), RangeError);
  }));

  test('an extension that is refused costs no lock', () => on(async (locks) => {
    const lock = await locks.acquire('k', { lease: 900 });
    await assert.rejects(lock.extend(1000.5), { code: 'BADARG' });
    await sleep(1500); // more than one lease
    assert.equal(lock.lost, undefined);
    assert(await lock.held());
    await lock.release();
  }));

  test('close gives back what comes in the same moment', () => on(async (_, client) => {
    const name = 'call' in client ? 'call' : 'sendCommand';
    const send = (client as any)[name].bind(client);
    for (let steps = 0; steps < 12; steps++) {
      const locks = new Locks(client);
      let end!: (closing: Promise<void>) => void;
      const closing = new Promise<void>((resolve) => (end = resolve));
      // So many steps after the reply has come: before the library has heard of it, while it goes on, and when it has the lock.
      const close = (left: number) => (left > 0 ? queueMicrotask(() => close(left - 1)) : end(locks.close()));
      (client as any)[name] = async (...args: unknown[]) => {
        const reply = await send(...args);
        if (JSON.stringify(args).includes('LOCK.ACQUIRE')) close(steps);
        return reply;
      };
      await locks.acquire('k').catch((error) => assert.equal(error.code, 'CLOSED'));
      await closing;
      assert.equal(await world.server.cmd('EXISTS', 'k'), 0, `after ${steps} steps`);
    }
    (client as any)[name] = send;
  }));

  test('who closes while a connection of ours is made leaves none', () => on(async (_, client) => {
    await world.server.cmd('LOCK.ACQUIRE', 'k', 'other');
    const before = await world.server.connections();
    for (let turn = 0; turn < 60; turn += 1) {
      const locks = new Locks(client);
      const wait = assert.rejects(locks.acquire('k'), { code: 'CLOSED' });
      await sleep((turn % 12) / 2);
      await locks.close();
      await wait;
    }
    await until('no connection is left', async () => (await world.server.connections()) <= before);
    await world.server.cmd('LOCK.RELEASE', 'k', 'other');
  }, { socket: { port: world.server.port, host: 'localhost' } })); // a name takes a moment longer than an address

  test('while locks come and go the connection that hears of turns stays', () => on(async (locks) => {
    const subscribed = () => world.server.figure('commandstats', 'cmdstat_subscribe:calls=');
    const before = await subscribed();
    for (let turn = 0; turn < 8; turn += 1) {
      await world.server.cmd('LOCK.ACQUIRE', 'k', 'other');
      const wait = locks.acquire('k');
      await until('it waits', async () => (await world.server.waiting('k')) === 1);
      await sleep(200); // twice are below the time after which it is closed
      await world.server.cmd('LOCK.RELEASE', 'k', 'other');
      await (await wait).release();
      await sleep(200);
    }
    assert.equal((await subscribed()) - before, 1);
  }));

  test('whoever listens to the signal has the lock', () => on(async (locks) => {
    let told: unknown;
    (await locks.acquire('k', { lease: 6000 })).signal.addEventListener('abort', (event) => { told = event; });
    for (let turn = 0; turn < 3; turn += 1) {
      await sleep(200);
      (globalThis as any).gc();
    }
    assert.equal((await world.server.holders('k')).length, 1);
    await world.server.cmd('LOCK.BREAK', 'k');
    await until('it is told', () => told);
  }));

  test('whoever has neither the lock nor its signal has lost it', () => on(async (locks) => {
    assert(!(await locks.acquire('k')).signal.aborted);
    await until('it is given back', () => {
      (globalThis as any).gc();
      return world.server.idle('k');
    });
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

describe('one client or another', { concurrency: 1 }, () => {
  let server: Server;
  before(async () => { server = await Server.start(); });
  after(() => server.stop());
  beforeEach(() => fresh(server));

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
          // More than are asked: on a slow machine the request of a call that was given up comes late.
          for (let n = 0; n < 5; n += 1) await proxy.tell(`fault LOCK.ACQUIRE ${fault} 400`);
          await assert.rejects(locks.acquire('k', { signal: AbortSignal.timeout(50) }));
          await assert.rejects(locks.acquire('k', { wait: 50 }));
          await proxy.tell('heal');
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
        const lock = await locks.acquire('k', { limit: 2, permits: 2, lease: 6000 });
        assert.match(String(lock.fence), /^[0-9]{16}$/);
        await assert.rejects(locks.acquire('k', { limit: 2, wait: 50 }), LockBusyError);
        await server.cmd('LOCK.BREAK', 'k');
        await until('it is told', () => lock.signal.aborted);
        assert.equal(lock.lost, 'broken');
      });
    }
  });

  test('work that keeps the event loop longer than the lease is told of the loss before it goes on', async () => {
    await using(CLIENTS['ioredis 5']!(server.port), server, async (locks) => {
      const { signal } = await locks.acquire('k', { lease: 300 });
      for (const end = performance.now() + 400; performance.now() < end;);
      await sleep(0);
      assert.equal(signal.reason?.reason, 'lease-over');
    });
  });

  // With `require`, too. Nothing is released in these programs, and the leases end what they held.
  const PROGRAM = (then: string) => `
    const { Redis } = require('ioredis');
    const { Locks } = require('fencelock');
    const redis = new Redis(${server.port});
    new Locks(redis).acquire('k', { lease: 5000 }).then(({ fence }) => { ${then} });`;
  const ENDS: Record<string, () => string> = {
    'a program that holds a lock': () => PROGRAM('console.log(typeof fence); redis.disconnect();'),
    'a worker thread that holds a lock': () => `
      const { Worker } = require('node:worker_threads');
      const code = ${JSON.stringify(PROGRAM("require('node:worker_threads').parentPort.postMessage(typeof fence);"))};
      const worker = new Worker(code, { eval: true });
      worker.once('message', (fence) => { console.log(fence); worker.terminate(); });`,
  };
  for (const [what, program] of Object.entries(ENDS)) {
    test(`${what} ends, and frees it within its lease`, async () => {
      const args = ['--no-warnings', '--input-type=commonjs', '-e', program()];
      assert.deepEqual(await promisify(execFile)(process.execPath, args, { timeout: 20_000 }), { stdout: 'bigint\n', stderr: '' });
      assert.equal((await server.holders('k')).length, 1);
      await until('it is free', () => server.idle('k'));
    });
  }

  test('clusters', async (t) => {
    const bus = ['--cluster-port', `${await freePort()}`]; // 10,000 above the other one, a connection of the past may have it
    const cluster = await Server.start('--cluster-enabled', 'yes', '--cluster-announce-ip', '127.0.0.1', ...bus);
    await cluster.cmd('CLUSTER', 'ADDSLOTSRANGE', 0, 16383);
    await fresh(cluster);
    await until('the cluster is up', async () => /state:ok/.test(await cluster.cmd('CLUSTER', 'INFO')));
    for (const [name, connect] of Object.entries(DEPLOYED['cluster']!)) {
      await t.test(name, () => using(connect({ port: cluster.port }), cluster, async (locks) => {
        const order: number[] = [];
        const waits: Promise<void>[] = [];
        const lock = await locks.acquire('k', { lease: 6000 });
        for (const n of [1, 2, 3]) {
          waits.push(locks.using('k', () => { order.push(n); }));
          await until(`${n} wait`, async () => (await cluster.waiting('k')) === n);
        }
        const renewed = await cluster.renewals();
        await until('it is renewed', async () => (await cluster.renewals()) > renewed);
        await lock.release();
        await Promise.all(waits);
        assert.deepEqual(order, [1, 2, 3]);
        await locks.using(['{k}1', '{k}2'], async () => {});
      }));
    }
    await cluster.stop();
  });

  // For some seconds after a failover the old primary says yes to all, so nothing may be asked there.
  test('with Sentinel: a lock goes along with the primary', async () => {
    const servers = await Deployment.start('sentinel');
    const connect = () => DEPLOYED['sentinel']!['ioredis']!(servers.told);
    const { home, sentinels, name } = servers.told;
    const replica = new Seen(looks(await servers.figure('replication', ',port=')));
    const watchers = sentinels.map(looks);
    try {
      await using(connect(), replica, async (locks) => {
        const lock = await locks.acquire('k', { lease: 6000 });
        await until('the replica has it', async () => (await replica.holders('k')).length === 1);
        await watchers[0].call('SENTINEL', 'FAILOVER', name);
        for (const watcher of watchers) {
          await until('it is the primary', async () => Number((await watcher.call('SENTINEL', 'GET-MASTER-ADDR-BY-NAME', name))[1]) !== home);
        }
        await replica.cmd('CONFIG', 'RESETSTAT');
        await until('the lock is renewed there', async () => lock.lost ?? (await replica.renewals()) > 0);
        assert.equal(lock.lost, undefined);
        await using(connect(), replica, async (others) => {
          assert.equal(await others.tryAcquire('k'), null);
          await lock.release();
          await others.using('k', ({ fence }) => assert(fence > lock.fence));
        });
      });
    } finally {
      for (const one of [replica.admin, ...watchers]) one.disconnect();
      await servers.stop();
    }
  });

  test('a Sentinel client of node-redis is refused', () => {
    const client = createSentinel({ name: 'locks', sentinelRootNodes: [{ host: '127.0.0.1', port: 1 }] });
    assert.throws(() => new Locks(client as any), /Sentinel/);
  });
});
