/** A server with the module, a hostile proxy before it, the clients that are tested, and waiting for what must become true. */

import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { after, before, describe } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { Redis as Ioredis5 } from 'ioredis';
import { Redis as Ioredis6 } from 'ioredis6';
import { createClient as createClient5 } from 'redis';
import { createClient as createClient6 } from 'redis6';
import type { RedisClient } from 'fencelock';

/** The only place that sleeps to wait for something. */
export async function until(what: string, condition: () => unknown, ms = 5000): Promise<void> {
  for (const end = performance.now() + ms; !(await condition()); await sleep(5)) {
    assert(performance.now() < end, `not so after ${ms} ms: ${what}`);
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
  return { client: made, close: () => made.destroy() };
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

export async function freePort(): Promise<number> {
  const probe = createServer().listen(0, '127.0.0.1');
  await once(probe, 'listening');
  const { port } = probe.address() as { port: number };
  await new Promise((closed) => probe.close(closed));
  return port;
}

export class Server {
  private constructor(readonly port: number, readonly process: ChildProcess, private readonly dir: string, readonly admin: Ioredis5) {}

  static async start(...options: string[]): Promise<Server> {
    const port = await freePort();
    const dir = mkdtempSync(join(tmpdir(), 'fencelock-'));
    const basics = ['--port', `${port}`, '--bind', '127.0.0.1', '--dir', dir, '--save', '', ...options];
    const child = spawn(process.env['SERVER_BIN']!, [...basics, '--loadmodule', process.env['MODULE_PATH']!], { stdio: 'ignore' });
    const admin = new Ioredis5({ port, lazyConnect: true, retryStrategy: () => 50, maxRetriesPerRequest: null });
    admin.on('error', () => {});
    const server = new Server(port, child, dir, admin);
    await until('the server answers', async () => child.exitCode !== null || (await admin.ping()) === 'PONG', 20_000);
    assert.equal(child.exitCode, null, 'the server has ended');
    return server;
  }

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

  async connections(): Promise<number> {
    return Number(/connected_clients:(\d+)/.exec(await this.admin.info('clients'))![1]);
  }

  async stop(): Promise<void> {
    this.admin.disconnect();
    this.process.kill('SIGCONT');
    this.process.kill('SIGKILL');
    if (this.process.exitCode === null && this.process.signalCode === null) await once(this.process, 'exit');
    rmSync(this.dir, { recursive: true, force: true });
  }
}

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
  proxy: Proxy;
}

/** Tests for each client, all clients at the same time, with a server and a proxy for each. */
export function forEachClient(what: string, tests: (world: World) => void): void {
  describe(what, { concurrency: true }, () => {
    for (const [name, connect] of Object.entries(CLIENTS)) {
      describe(name, { concurrency: 1 }, () => {
        const world = { connect } as World;
        before(async () => {
          world.server = await Server.start();
          world.proxy = await Proxy.start(world.server.port);
        });
        after(async () => {
          await world.proxy?.stop();
          await world.server?.stop();
        });
        tests(world);
      });
    }
  });
}
