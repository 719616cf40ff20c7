/** The driver of clients/conformance. Its ways are the clients of support.ts. */

import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Lock, LockError, LockLostError, Locks } from 'fencelock';
import { CLIENTS, type Connected, DEPLOYED } from './support.js';

const gc = (globalThis as any).gc as () => void;
const way = process.argv[2]!;
const deployed = way.endsWith(' 5') ? way.slice(0, -2) : undefined;
const SAME = 'it is the same code as with the version before';

const cannot = {
  fork: 'a process of Node cannot fork: its child processes begin anew',
  ...(deployed ? {} : { tls: SAME, cluster: SAME, sentinel: SAME }),
  ...(deployed === 'node-redis' ? { sentinel: 'node-redis stays with an old primary' } : {}),
};

function say(event: object): void {
  process.stdout.write(`${JSON.stringify(event)}\n`);
}

class Driver {
  private kind = '';
  private readonly clients: Connected[] = [];
  private readonly programs: Locks[] = [];
  private readonly aborts = new Map<string, AbortController>();
  private readonly held = new Map<string, Lock>();
  private readonly ears = new Map<string, () => void>();

  async open(where: any) {
    this.kind = where.kind;
    const [port] = where.ports;
    const connected = await (where.kind === 'alone' ? CLIENTS[way]!(port) : DEPLOYED[where.kind]![deployed!]!({ ...where, port, sentinels: where.ports }));
    this.clients.push(connected);
    this.programs.push(new Locks(connected.client));
  }

  async acquire({ who, program, keys, kind, limit, timeout, renew, watch, most, owner, wait }: any) {
    const locks = this.programs[program - 1]!;
    const options = { lease: timeout * 1000, renew, watch, shared: kind === 'shared', ...(limit && { limit }), ...(owner && { owner }), ...(most && { maxHold: most * 1000 }) };
    const abort = new AbortController();
    this.aborts.set(who, abort);
    const waits = { ...options, signal: abort.signal, ...(wait === null ? {} : { wait: wait * 1000 }) };
    const lock = wait === 0 ? await locks.tryAcquire(keys, options) : await locks.acquire(keys, waits);
    if (!lock) return { outcome: 'busy' };
    this.held.set(who, lock);
    this.listen(who, lock);
    return { outcome: 'held', fence: Number(lock.fence) };
  }

  private listen(who: string, { signal }: Lock) {
    const told = () => say({ do: 'lost', who, reason: signal.reason.reason });
    signal.addEventListener('abort', told);
    this.ears.set(who, () => signal.removeEventListener('abort', told));
  }

  cancel({ who }: any) {
    this.aborts.get(who)!.abort(new Error('cancelled'));
  }

  release({ who }: any) {
    return this.held.get(who)!.release();
  }

  extend({ who, seconds }: any) {
    return this.held.get(who)!.extend(seconds * 1000);
  }

  async owned({ who }: any) {
    return { owned: await this.held.get(who)!.held() };
  }

  /** Whoever listens has the lock, too. */
  async drop({ who }: any) {
    this.ears.get(who)!();
    for (const map of [this.held, this.ears, this.aborts]) map.delete(who);
    await sleep(10); // what ran in this turn of the event loop is still referred to
    gc();
  }

  /** The only connection waits for something that the player pushes. */
  exhaust() {
    const { client } = this.clients[0]!;
    void ('call' in client ? client.call('BLPOP', 'nothing', '0') : client.sendCommand(['BLPOP', 'nothing', '0']));
    return { taken: 1 };
  }

  close() {
    return this.programs[0]!.close();
  }

  async end() {
    for (const stop of this.ears.values()) stop();
    for (const map of [this.held, this.ears, this.aborts]) map.clear();
    for (const locks of this.programs.splice(0)) await locks.close();
    for (const connected of this.clients.splice(0)) connected.close();
  }

  /** A cluster of node-redis that is closed while it connects leaves its sockets open. */
  left() {
    const names = deployed === 'node-redis' && this.kind === 'cluster' ? ['Timeout'] : ['Timeout', 'TCPSocketWrap'];
    return { left: process.getActiveResourcesInfo().filter((name) => names.includes(name)) };
  }

  async obey({ do: name, who, ...request }: any) {
    let answer: any;
    try {
      answer = (await (this as any)[name]({ who, ...request })) ?? { outcome: 'ok' };
    } catch (error) {
      if (!(error instanceof LockError) && name !== 'acquire') throw error;
      const outcome = error instanceof LockLostError ? 'not-owned' : (error as LockError).code === 'BUSY' ? 'busy' : 'error';
      answer = { outcome, error: `${error}` };
    }
    say({ do: name, who, ...answer });
  }
}

const driver = new Driver();
say({ do: 'hello', cannot, waits: 'tickets', claims: 'LOCK.ACQUIRE', keeps: 1 });
for await (const line of createInterface({ input: process.stdin })) void driver.obey(JSON.parse(line));
process.exit();
