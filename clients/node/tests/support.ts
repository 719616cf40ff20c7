/** A server with the module, a hostile proxy before it, the clients that are tested, and waiting for what must become true. */

import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { after, before, describe } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { Cluster, Redis as Ioredis5 } from 'ioredis';
import { Redis as Ioredis6 } from 'ioredis6';
import { createClient as createClient5, createCluster } from 'redis';
import { createClient as createClient6 } from 'redis6';
import type { RedisClient } from 'fencelock';

/** The only place that sleeps to wait for something. A condition that never settles is late, too. */
export async function until(what: string, condition: () => unknown, ms = 20_000): Promise<void> {
  let timer: NodeJS.Timeout;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`not so after ${ms} ms: ${what}`)), ms);
  });
  try {
    while (!(await Promise.race([late, condition()]))) await sleep(5);
  } finally {
    clearTimeout(timer!);
  }
}

export interface Connected {
  client: RedisClient;
  close(): void;
}

async function ioredis(made: { connect(): Promise<void>; disconnect(): void } & RedisClient): Promise<Connected> {
  await made.connect();
  return { client: made, close: () => made.disconnect() };
}

async function nodeRedis(made: any): Promise<Connected> {
  await made.connect();
  // Destroyed while it connects again, it would leave that connection open.
  return { client: made, close: () => (made.isReady ? made.destroy() : void setTimeout(() => made.destroy(), 500)) };
}

/** Each client in its default settings, but for the port. */
export const CLIENTS: Record<string, (port: number, options?: object) => Promise<Connected>> = {
  'ioredis 5': (port, options) => ioredis(new Ioredis5({ port, lazyConnect: true, ...options })),
  'node-redis 5': (port, options) => nodeRedis(createClient5({ socket: { port, host: '127.0.0.1' }, ...options })),
};
if (!process.env['BRIEF']) {
  CLIENTS['ioredis 6'] = (port, options) => ioredis(new Ioredis6({ port, lazyConnect: true, ...options }));
  CLIENTS['node-redis 6'] = (port, options) => nodeRedis(createClient6({ socket: { port, host: '127.0.0.1' }, ...options }));
}

/** None of the ports that the system gives to outgoing connections: such a one is taken for a minute after its connection was closed. */
export async function freePort(): Promise<number> {
  for (;;) {
    const port = randomInt(20_000, 32_000);
    const probe = createServer().listen(port, '127.0.0.1');
    const free = await once(probe, 'listening').then(() => true, () => false);
    if (!free) continue;
    await new Promise((closed) => probe.close(closed));
    return port;
  }
}

/** A server, as a test looks at it. */
export class Seen {
  constructor(public admin: Ioredis5) {}

  cmd(...args: (string | number)[]): Promise<any> {
    const [name, ...rest] = args.map(String);
    return this.admin.call(name!, ...rest);
  }

  private async info(key: string): Promise<Record<string, any>> {
    return pairs(await this.cmd('LOCK.INFO', key));
  }

  async holders(key: string): Promise<string[]> {
    return (await this.info(key))['holds'].map((hold: any[]) => pairs(hold)['owner']);
  }

  async waiting(key: string): Promise<number> {
    return (await this.info(key))['waiting'];
  }

  async idle(...keys: string[]): Promise<boolean> {
    for (const key of keys) if ((await this.holders(key)).length || (await this.waiting(key))) return false;
    return true;
  }

  /** A number from INFO, or 0. */
  async figure(section: string, name: string): Promise<number> {
    return Number((await this.admin.info(section)).split(name)[1]?.split(/\D/)[0] ?? 0);
  }

  renewals(): Promise<number> {
    return this.figure('commandstats', 'cmdstat_lock.renew:calls=');
  }

  connections(): Promise<number> {
    return this.figure('clients', 'connected_clients:');
  }
}

/** A connection for looks at the server on this port. */
export function looks(port: number): Ioredis5 {
  const admin = new Ioredis5({ port, lazyConnect: true, retryStrategy: () => 50, maxRetriesPerRequest: null });
  return admin.on('error', () => {});
}

export class Server extends Seen {
  private constructor(readonly port: number, readonly process: ChildProcess, readonly dir: string, admin: Ioredis5) {
    super(admin);
  }

  static async start(...options: string[]): Promise<Server> {
    const port = await freePort();
    const dir = mkdtempSync(join(tmpdir(), 'fencelock-'));
    const basics = ['--port', `${port}`, '--bind', '127.0.0.1', '--dir', dir, '--save', '', ...options];
    const child = spawn(process.env['SERVER_BIN']!, [...basics, '--loadmodule', process.env['MODULE_PATH']!], { stdio: 'ignore' });
    const admin = looks(port);
    const server = new Server(port, child, dir, admin);
    const own = new RegExp(`process_id:${child.pid}\\b`); // and not a server of somebody else on this port
    const ended = once(child, 'exit').then(() => assert.fail('the server has ended'));
    try {
      await until('the server answers', async () => own.test(await Promise.race([ended, admin.info('server')])), 20_000);
    } catch (error) {
      await server.stop();
      throw error;
    }
    return server;
  }

  async kill(): Promise<void> {
    this.admin.disconnect();
    this.process.kill('SIGCONT');
    this.process.kill('SIGKILL');
    if (this.process.exitCode === null && this.process.signalCode === null) await once(this.process, 'exit');
  }

  async stop(): Promise<void> {
    await this.kill();
    rmSync(this.dir, { recursive: true, force: true });
  }
}

/** Servers of deploy.py. The test's own looks go to the one that has the keys. */
export class Deployment extends Seen {
  private constructor(readonly told: any, private readonly process: ChildProcess) {
    super(looks(told.home));
  }

  static async start(kind: string): Promise<Deployment> {
    const child = spawn('python3', [process.env['PROXY']!.replace('proxy.py', 'deploy.py'), kind], { stdio: ['pipe', 'pipe', 'inherit'] });
    const lines = createInterface({ input: child.stdout! })[Symbol.asyncIterator]();
    const told: string = (await lines.next()).value;
    return new Deployment(JSON.parse(told), child);
  }

  async stop(): Promise<void> {
    this.admin.disconnect();
    this.process.stdin!.end();
    if (this.process.exitCode === null) await once(this.process, 'exit');
  }
}

/** How each client gets to the locks of such servers. */
export const DEPLOYED: Record<string, Record<string, (told: any) => Promise<Connected>>> = {
  tls: {
    ioredis: ({ port, ca, user, password }) =>
      ioredis(new Ioredis5({ port, host: 'localhost', username: user, password, tls: { ca: readFileSync(ca) }, lazyConnect: true })),
    'node-redis': ({ port, ca, user, password }) =>
      nodeRedis(createClient5({ username: user, password, socket: { port, host: 'localhost', tls: true, ca: readFileSync(ca) } })),
  },
  cluster: {
    ioredis: ({ port }) => ioredis(new Cluster([{ host: '127.0.0.1', port }], { lazyConnect: true, slotsRefreshTimeout: 10_000 })),
    'node-redis': async ({ port }) => {
      const client = createCluster({ rootNodes: [{ socket: { host: '127.0.0.1', port } }] });
      await client.connect();
      return { client, close: () => client.destroy() };
    },
  },
  sentinel: {
    ioredis: ({ sentinels, name }) =>
      ioredis(new Ioredis5({ name, sentinels: sentinels.map((port: number) => ({ host: '127.0.0.1', port })), lazyConnect: true })),
  },
};

const pairs = (flat: any[]) => Object.fromEntries(flat.flatMap((word, i) => (i % 2 ? [] : [[word, flat[i + 1]]])));

export class Proxy {
  private constructor(readonly port: number, private readonly process: ChildProcess, private readonly lines: AsyncIterator<string>) {}

  static async start(port: number): Promise<Proxy> {
    const child = spawn('python3', [process.env['PROXY']!, `${port}`], { stdio: ['pipe', 'pipe', 'inherit'] });
    const lines = createInterface({ input: child.stdout! })[Symbol.asyncIterator]();
    return new Proxy(Number((await lines.next()).value), child, lines);
  }

  async tell(line: string): Promise<void> {
    this.process.stdin!.write(`${line}\n`);
    assert.equal((await this.lines.next()).value, 'ok', line);
  }

  async stop(): Promise<void> {
    this.process.stdin!.end();
    await once(this.process, 'exit');
  }
}

export interface World {
  connect(port: number, options?: object): Promise<Connected>;
  server: Server;
}

/** Tests for each client, all clients at the same time, with a server for each. */
export function forEachClient(what: string, tests: (world: World) => void): void {
  describe(what, { concurrency: true }, () => {
    for (const [name, connect] of Object.entries(CLIENTS)) {
      describe(name, { concurrency: 1 }, () => {
        const world = { connect } as World;
        before(async () => {
          // Without a window: a promotion shows what it is about, and not the wait after it.
          world.server = await Server.start('--lock.recovery-window-ms', '0');
        });
        after(async () => {
          await world.server?.stop();
        });
        tests(world);
      });
    }
  });
}
