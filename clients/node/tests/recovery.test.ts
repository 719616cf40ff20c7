/** A failover that loses the newest grants, and the recovery window in which they come back. */

import assert from 'node:assert/strict';
import { renameSync, rmSync, symlinkSync } from 'node:fs';
import { describe, test } from 'node:test';
import { type Lock, LockBusyError, Locks } from 'fencelock';
import { CLIENTS, Server, until } from './support.js';

/** A primary, a replica that hears of nothing any more, and an address that leads to the one and later to the other. */
class Failover {
  private constructor(readonly old: Server, readonly next: Server, readonly address: string) {
    this.leadTo(old);
  }

  static async prepare(): Promise<Failover> {
    const old = await Server.start('--unixsocket', 'socket');
    await old.cmd('LOCK.ACQUIRE', 'known', 'piece-of-work', 'PX', 60_000);
    const next = await Server.start('--unixsocket', 'socket', '--replicaof', `127.0.0.1 ${old.port}`);
    await until('the replica follows', async () => (await next.holders('known')).length === 1);
    await next.cmd('REPLICAOF', '127.0.0.1', 1);
    return new Failover(old, next, `${old.dir}.address`);
  }

  private leadTo(server: Server): void {
    symlinkSync(`${server.dir}/socket`, `${this.address}.next`);
    renameSync(`${this.address}.next`, this.address);
  }

  /** The window is longer than any test. */
  async happen(): Promise<void> {
    await this.next.cmd('CONFIG', 'SET', 'lock.recovery-window-ms', 100_000, 'lock.recovery-window-max-ms', 100_000);
    await this.old.kill();
    await this.next.cmd('REPLICAOF', 'NO', 'ONE');
    this.leadTo(this.next);
  }

  async stop(): Promise<void> {
    rmSync(this.address, { force: true });
    for (const server of [this.old, this.next]) await server.stop();
  }
}

/** Mode and limit of a lock, and each hold with its owner, fence and permits. */
async function stand(server: Server, key: string): Promise<string> {
  const info: any[] = await server.cmd('LOCK.INFO', key);
  return JSON.stringify([info.slice(1, 4), info[5].map((hold: any[]) => String(hold.slice(0, 6))).sort()]);
}

const KEYS = ['k', 'readers', 'pool', 'm', 'n', 's', 't'];

describe('a failover that loses the newest grants', { concurrency: 2 }, () => {
  for (const [name, connect] of Object.entries(CLIENTS)) {
    const on = async (body: (servers: Failover, locks: Locks) => Promise<void>) => {
      const servers = await Failover.prepare();
      const { client, close } = await connect(servers.old.port, { path: servers.address, socket: { path: servers.address } });
      const locks = new Locks(client);
      try {
        await body(servers, locks);
      } finally {
        await locks.close();
        close();
        await servers.stop();
      }
    };

    test(`${name}: holds come back as they were`, () => on(async (servers, locks) => {
      const lease = 12_000;
      const held: Lock[] = [await locks.acquire('k', { lease })];
      for (const key of ['readers', 'readers', ['s', 't']]) held.push(await locks.acquire(key, { lease, shared: true }));
      for (const key of ['pool', 'pool', ['m', 'n']]) held.push(await locks.acquire(key, { lease, limit: 4, permits: 2 }));
      const looks = async (server: Server) => (await Promise.all(KEYS.map((key) => stand(server, key)))).join('\n');
      const before = await looks(servers.old);
      await servers.happen();
      assert(await servers.next.idle(...KEYS), 'it has not heard of them');
      await until('as they were', async () => (await looks(servers.next)) === before).catch(async () => assert.equal(await looks(servers.next), before));
      for (const lock of held) {
        assert.equal(lock.lost, undefined);
        await lock.release();
      }
      assert(await servers.next.idle(...KEYS));
    }));

    test(`${name}: who asks in the window waits for its end`, () => on(async (servers, locks) => {
      const lock = await locks.acquire('k', { limit: 2 });
      await servers.happen();
      assert.equal(await locks.tryAcquire('free'), null);
      await assert.rejects(locks.acquire('free', { wait: 300 }), LockBusyError);
      // An owner of whom the server does not know whether it has let go of the lock meanwhile.
      const owner = 'piece-of-work';
      assert.equal(await locks.tryAcquire('known', { owner }), null);
      assert.deepEqual(await servers.next.holders('known'), [owner]);
      let got = 0;
      const waits = [locks.acquire('known', { owner }), locks.acquire('free')];
      for (const wait of waits) void wait.then(() => { got += 1; });
      await until('it waits', async () => (await servers.next.waiting('free')) === 1);

      assert(await lock.held(), 'to ask for it brings it back');
      assert.deepEqual(await servers.next.holders('k'), [lock.owner]);
      assert.equal(got, 0);
      await servers.next.cmd('LOCK.RECOVERY', 'END');
      for (const wait of waits) await (await wait).release();
      await (await locks.acquire('k', { limit: 2 })).release();
      await lock.release();
    }));
  }
});
