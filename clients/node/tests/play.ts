/** The driver of clients/conformance/scenarios.json. */

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { Lock, LockError, LockLostError, Locks } from 'fencelock';
import { type Connected, type Deployment, type Proxy, type Seen, Server, until } from './support.js';

export const SCENARIOS: any[] = JSON.parse(readFileSync(process.env['SCENARIOS']!, 'utf8'));
const CANNOT: Record<string, string> = {
  fork: 'a process of Node cannot fork: its child processes begin anew',
  unblock: 'who waits has a ticket, and blocks nothing',
};
const CAN = ['cancel', 'drop', 'pool', 'owner', 'key', 'extend', 'close', 'many', 'two-programs', 'watch'];

/** Why a scenario is not played, or false. */
export function reason({ needs = [], thorough, except, ...scenario }: any, more: string[]): string | false {
  if (thorough && process.env['BRIEF']) return 'only in the long form';
  const lacking = needs.find((need: string) => ![...CAN, ...more].includes(need));
  return scenario['not-yet'] ?? except?.node ?? (lacking ? CANNOT[lacking] ?? `this driver does not know ${lacking}` : false);
}
const gc = (globalThis as any).gc as () => void;

interface Call {
  lock?: Lock;
  outcome?: string;
  kind?: string;
  error?: unknown;
  settled: Promise<void>;
  abort: AbortController;
}

class Play {
  private calls = new Map<string, Call>();
  private believers = new Set<string>();
  private fences = new Map<string, bigint>();
  private crowd = 0;
  private order: number[] = [];
  private many: Lock[] = [];

  constructor(
    public server: Seen, private readonly proxy: Proxy | undefined, private readonly programs: Locks[],
    private readonly connected: Connected, private keys: string[], private readonly next?: Server,
  ) {}

  private take(step: any): Call {
    const { wait, timeout = 10, renew = false, watch = false, kind, limit, owner, program = 1, key = this.keys[0]! } = step;
    const keys = kind === 'multi' ? this.keys : key;
    const locks = this.programs[program - 1]!;
    const options = { lease: timeout * 1000, renew, watch, shared: kind === 'shared', ...(limit ? { limit } : {}), ...(owner ? { owner } : {}) };
    const abort = new AbortController();
    const waits = { ...options, signal: abort.signal, ...(wait === undefined ? {} : { wait: wait * 1000 }) };
    const taken = wait === 0 ? locks.tryAcquire(keys, options) : locks.acquire(keys, waits);
    const call: Call = { abort, kind, settled: taken.then((lock) => {
      if (lock) call.lock = lock;
      call.outcome = lock ? 'held' : 'busy';
    }, (error) => {
      call.error = error;
      call.outcome = (error as LockError).code === 'BUSY' ? 'busy' : 'error';
    }) };
    return call;
  }

  async acquire(step: any) {
    this.calls.set(step.who, this.take(step));
    if (!step.later) await this.join(step);
  }

  async join({ who, expect, within = 5 }: any) {
    const call = this.calls.get(who)!;
    const { kind } = call;
    await until(`${who} has an outcome`, () => call.outcome, within * 1000);
    if (expect === 'not-held' && call.outcome !== 'held') return;
    assert.equal(call.outcome, expect, `${who}: ${call.error}`);
    if (!call.lock) return;
    const { keys } = call.lock;
    const others = [...this.believers].map((name) => this.calls.get(name)!.lock!).filter((other) => !other.lost && other.keys[0] === keys[0]);
    if (kind === undefined || kind === 'multi') assert.deepEqual(others, [], `${who} and others believe in one lock`);
    this.believers.add(who);
    this.fences.set(who, call.lock.fence);
  }

  cancel({ who }: any) {
    this.calls.get(who)!.abort.abort(new Error('cancelled'));
  }

  async release({ who, expect }: any) {
    this.believers.delete(who);
    await this.settled(expect, this.calls.get(who)!.lock!.release());
  }

  async extend({ who, seconds, expect }: any) {
    await this.settled(expect, this.calls.get(who)!.lock!.extend(seconds * 1000));
  }

  private async settled(expect: string, done: Promise<unknown>) {
    const error = await done.then(() => undefined, (caught) => caught);
    const outcome = !error ? 'ok' : error instanceof LockLostError ? 'not-owned' : error instanceof LockError ? 'error' : `${error}`;
    assert.equal(outcome, expect);
  }

  async startMany({ n, timeout }: any) {
    this.keys = Array.from({ length: n }, (_, i) => `k:${i}`);
    for (const key of this.keys) this.many.push((await this.programs[0]!.tryAcquire(key, { lease: timeout * 1000 }))!);
  }

  async 'release-many'() {
    for (const lock of this.many) await lock.release();
  }

  async reads({ for: seconds, renewals, 'at-most': most }: any) {
    const { server } = this;
    const looks = async () => [await server.figure('commandstats', 'cmdstat_lock.renew:calls='), await server.figure('stats', 'total_reads_processed:')] as const;
    const before = await looks();
    await sleep(seconds * 1000);
    const after = await looks();
    assert(after[0] - before[0] >= renewals && after[1] - before[1] <= most, `from ${before} to ${after}`);
  }

  restart() {
    return (this.server as Server).restart();
  }

  close() {
    return this.programs[0]!.close();
  }

  async owned({ who, expect }: any) {
    assert.equal(await this.calls.get(who)!.lock!.held(), expect);
  }

  async lost({ who, within, reason }: any) {
    const { signal } = this.calls.get(who)!.lock!;
    await until(`${who} is told of the loss`, () => signal.aborted, within * 1000);
    assert.equal(signal.reason.reason, reason);
  }

  async 'not-lost'({ who, for: seconds }: any) {
    await sleep(seconds * 1000);
    assert(!this.calls.get(who)!.lock!.signal.aborted);
  }

  async drop({ who }: any) {
    this.calls.delete(who);
    this.believers.delete(who);
    await sleep(10); // what ran in this turn of the event loop is still referred to
    gc();
  }

  rising({ who }: any) {
    const fences = who.map((name: string) => this.fences.get(name)!);
    for (let i = 1; i < fences.length; i += 1) assert(fences[i - 1] < fences[i]);
  }

  async startCrowd({ n }: any) {
    await this.server.cmd('CONFIG', 'SET', 'lock.claim-ms', 20_000); // a turn waits for a slow machine: the order does not depend on its speed
    for (let number = 0; number < n; number += 1) {
      const before = await this.server.waiting(this.keys[0]!);
      const call = this.take({});
      this.crowd += 1;
      void call.settled.then(() => {
        this.order.push(number);
        return call.lock?.release();
      });
      await until('it is in line', async () => (await this.server.waiting(this.keys[0]!)) === before + 1);
    }
  }

  async 'crowd-in-order'({ within }: any) {
    await until('all had their turn', () => this.order.length === this.crowd, within * 1000);
    assert.deepEqual(this.order, [...this.order].sort((a, b) => a - b));
  }

  /** The only connection is blocked by somebody who uses it, too. */
  exhaust() {
    const { client } = this.connected;
    void ('call' in client ? client.call('BLPOP', 'nothing', '0') : client.sendCommand(['BLPOP', 'nothing', '0'])).catch(() => {});
  }

  async 'give-back'() {
    await this.server.cmd('RPUSH', 'nothing', 'x');
  }

  async onServer({ args, ...expected }: any) {
    const reply = await this.server.cmd(...args);
    if ('reply' in expected) assert.equal(`${reply}`, `${expected.reply}`);
  }

  async successor() {
    const server = this.next!;
    await server.cmd('REPLICAOF', '127.0.0.1', 1);
    await server.cmd('REPLICAOF', 'NO', 'ONE');
    await this.proxy!.tell(`server ${server.port}`);
    this.server = server;
  }

  failover() {
    return (this.server as Deployment).failover();
  }

  async until({ waiting, holders, mode, blocked, within = 5, key = this.keys[0]! }: any) {
    const inLine = waiting ?? blocked; // who waits has a ticket, and blocks nothing
    await until(JSON.stringify({ waiting, holders, mode, blocked }), async () =>
      (mode === undefined || (await this.server.mode(key)) === mode) &&
      (inLine === undefined || (await this.server.waiting(key)) === inLine) &&
      (holders === undefined || (await this.server.holders(key)).length === holders), within * 1000);
  }

  /** What comes by waiting is claimed by the request that asks for the ticket, and not by a RENEW. */
  fault({ line }: any) {
    return this.proxy?.tell(this.believers.size ? line : line.replace('LOCK.RENEW', 'LOCK.ACQUIRE'));
  }

  async step(step: any) {
    const names: Record<string, string> = { server: 'onServer', crowd: 'startCrowd', many: 'startMany' };
    if (step.do === 'sleep') await sleep(step.seconds * 1000);
    else await (this as any)[names[step.do] ?? step.do](step);
  }
}

/** Plays a scenario, and looks that nothing is left. `connect` makes the client of a program. */
export async function play(scenario: any, server: Seen, proxy: Proxy | undefined, connect: () => Promise<Connected>): Promise<void> {
  const keys = scenario.keys ?? ['k'];
  const connections = await server.connections();
  const programs = [await connect()];
  if (scenario.needs?.includes('two-programs')) programs.push(await connect());
  const locks = programs.map(({ client }) => new Locks(client));
  const next = scenario.needs?.includes('successor') ? await Server.start('--lock.recovery-window-ms', '10000') : undefined;
  await next?.cmd('LOCK.ACQUIRE', 'before', 'other');
  const played = new Play(server, proxy, locks, programs[0]!, keys, next);
  try {
    for (const step of scenario.steps) await played.step(step);
    await until('no lock is held and nobody waits', () => played.server.idle(...keys), 4000);
    if (proxy) await until('our own connections are closed', async () => (await server.connections()) <= connections + programs.length, 10_000);
  } finally {
    await proxy?.tell('heal');
    await proxy?.tell('accept');
    for (const one of locks) await one.close();
    for (const one of programs) one.close();
    await next?.stop();
  }
  if (proxy) await until('no connection is left', async () => (await server.connections()) <= connections, 10_000);
}
