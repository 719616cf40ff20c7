/** Plays clients/conformance/scenarios.json on each client. */

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { Lock, LockError, LockLostError, Locks } from 'fencelock';
import { type Connected, type World, forEachClient, until } from './support.js';

const SCENARIOS: any[] = JSON.parse(readFileSync(process.env['SCENARIOS']!, 'utf8'));
const CANNOT: Record<string, string> = { fork: 'a process of Node cannot fork: its child processes begin anew' };
const gc = (globalThis as any).gc as () => void;

interface Call {
  lock?: Lock;
  outcome?: string;
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

  constructor(private readonly world: World, private readonly locks: Locks, private readonly connected: Connected, private readonly keys: string[]) {}

  private take(step: any): Call {
    const { wait, timeout = 10, renew = false, kind, limit } = step;
    const keys = kind === 'multi' ? this.keys : this.keys[0]!;
    const options = { lease: timeout * 1000, renew, shared: kind === 'shared', ...(limit ? { limit } : {}) };
    const abort = new AbortController();
    const waits = { ...options, signal: abort.signal, ...(wait === undefined ? {} : { wait: wait * 1000 }) };
    const taken = wait === 0 ? this.locks.tryAcquire(keys, options) : this.locks.acquire(keys, waits);
    const call: Call = { abort, settled: taken.then((lock) => {
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
    if (!step.later) await this.join(step, step.kind);
  }

  async join({ who, expect, within = 5 }: any, kind?: string) {
    const call = this.calls.get(who)!;
    await until(`${who} has an outcome`, () => call.outcome, within * 1000);
    assert.equal(call.outcome, expect, `${who}: ${call.error}`);
    if (!call.lock) return;
    const others = [...this.believers].filter((other) => !this.calls.get(other)!.lock!.lost);
    if (kind === undefined || kind === 'multi') assert.deepEqual(others, [], `${who} and others believe in one lock`);
    this.believers.add(who);
    this.fences.set(who, call.lock.fence);
  }

  cancel({ who }: any) {
    this.calls.get(who)!.abort.abort(new Error('cancelled'));
  }

  async release({ who, expect }: any) {
    this.believers.delete(who);
    const error = await this.calls.get(who)!.lock!.release().catch((caught) => caught);
    const outcome = !error ? 'ok' : error instanceof LockLostError ? 'not-owned' : error instanceof LockError ? 'error' : `${error}`;
    assert.equal(outcome, expect);
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
    for (let number = 0; number < n; number += 1) {
      const before = await this.world.server.waiting(this.keys[0]!);
      const call = this.take({});
      this.crowd += 1;
      void call.settled.then(() => {
        this.order.push(number);
        return call.lock?.release();
      });
      await until('it is in line', async () => (await this.world.server.waiting(this.keys[0]!)) === before + 1);
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
    await this.world.server.cmd('RPUSH', 'nothing', 'x');
  }

  async onServer({ args, ...expected }: any) {
    const reply = await this.world.server.cmd(...args);
    if ('reply' in expected) assert.equal(reply, expected.reply);
  }

  async until({ waiting, holders, blocked, within = 5 }: any) {
    const key = this.keys[0]!;
    const inLine = waiting ?? blocked; // who waits has a ticket, and blocks nothing
    await until(JSON.stringify({ waiting, holders, blocked }), async () =>
      (inLine === undefined || (await this.world.server.waiting(key)) === inLine) &&
      (holders === undefined || (await this.world.server.holders(key)).length === holders), within * 1000);
  }

  /** What comes by waiting is claimed by the request that asks for the ticket, and not by a RENEW. */
  fault({ line }: any) {
    return this.world.proxy.tell(this.believers.size ? line : line.replace('LOCK.RENEW', 'LOCK.ACQUIRE'));
  }

  async step(step: any) {
    const names: Record<string, string> = { server: 'onServer', crowd: 'startCrowd' };
    if (step.do === 'sleep') await sleep(step.seconds * 1000);
    else await (this as any)[names[step.do] ?? step.do](step);
  }
}

forEachClient('scenarios', (world) => {
  for (const scenario of SCENARIOS) {
    const lacking = (scenario.needs ?? []).find((need: string) => CANNOT[need]);
    const skip = scenario['not-yet'] ?? (lacking ? CANNOT[lacking] : false);
    test(scenario.name, { skip, timeout: 60_000 }, async () => {
      const { server, proxy, connect } = world;
      await server.cmd('FLUSHALL');
      const keys = scenario.keys ?? ['k'];
      const connections = await server.connections();
      const connected = await connect(proxy.port);
      const locks = new Locks(connected.client);
      try {
        const play = new Play(world, locks, connected, keys);
        for (const step of scenario.steps) await play.step(step);
        await until('no lock is held and nobody waits', () => server.idle(...keys), 2000);
        await until('our own connections are closed', async () => (await server.connections()) <= connections + 1, 3000);
      } finally {
        await proxy.tell('heal');
        await proxy.tell('accept');
        await locks.close();
        connected.close();
      }
      await until('no connection is left', async () => (await server.connections()) <= connections, 3000);
    });
  }
});
