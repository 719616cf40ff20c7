/** Which request is sent when, and what its reply means: waits in line, and holds that are kept. */

import { randomBytes } from 'node:crypto';
import { hostname } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { LockError, LockLostError, codeOf, passing } from './errors.js';
import { Link, REPLY, now, nothing } from './link.js';

export const LEASE = 30_000; // ms; renewed at a third of it
const TICKET = 5000; // ms for which a place in line outlives the last request for it
const PATIENCE = 10_000; // ms without one good reply, after which a wait ends with the last error
const STRING = 100; // ms between two looks at a key that is in the hands of somebody who uses SET NX
// ms between two requests of one who waits. A turn must be claimed within `lock.claim-ms`, 1 s, and a message may be lost.
const ASK = { first: { told: 700, deaf: 250 }, others: { told: 2000, deaf: 800 } };

const HOST = hostname().replace(/[^\w.-]/g, '').slice(0, 64);
export const newOwner = () => `${HOST}:${process.pid}:${randomBytes(8).toString('hex')}`;
const vary = (ms: number) => ms * (0.85 + 0.15 * Math.random());

/** A fence as the server wrote it. A client may hand over a number, a string or a BigInt, but never a rounded number. */
export function toFence(reply: unknown): bigint {
  if (typeof reply === 'number' && !Number.isSafeInteger(reply)) {
    throw new LockError('ROUNDED', `the client has rounded the fence ${reply}; let it reply with strings`);
  }
  return BigInt(String(reply));
}

/** Ends the wait and the hold of an owner. */
const cancellation = (keys: readonly string[], owner: string) => (keys.length === 1
  ? ['LOCK.RELEASE', keys[0]!, owner, 'CANCEL']
  : ['LOCK.MRELEASE', owner, String(keys.length), ...keys, 'CANCEL']);

/** What is left of the lease in ms, the least of several. */
const left = (reply: unknown): number => (Array.isArray(reply) ? Math.min(...reply.map(Number)) : Number(reply));

/** One grant. It outlives the object that the program has. */
export class Hold {
  readonly over = new AbortController();
  /** Why it has ended, if it has ended without a release. */
  reason = '';
  released = false;
  due = 0;
  /** Whether an older request of this owner got no reply, and may still be obeyed. */
  doubt = false;

  constructor(
    readonly keys: readonly string[], readonly owner: string, readonly fence: bigint,
    public lease: number, public until: number, readonly renew: boolean,
  ) {
    this.plan();
  }

  get key(): string {
    return this.keys[0]!;
  }

  plan(): void {
    this.due = this.renew ? now() + vary(this.lease / 3) : this.until;
  }

  private fenced(): string[] {
    return ['FENCE', String(this.fence)];
  }

  renewal(): string[] {
    return this.keys.length === 1
      ? ['LOCK.RENEW', this.key, this.owner, 'PX', String(this.lease), ...this.fenced()]
      : ['LOCK.MRENEW', this.owner, String(this.lease), String(this.keys.length), ...this.keys, ...this.fenced()];
  }

  release(): string[] {
    return this.keys.length === 1
      ? ['LOCK.RELEASE', this.key, this.owner, ...this.fenced()]
      : ['LOCK.MRELEASE', this.owner, String(this.keys.length), ...this.keys, ...this.fenced()];
  }

  check(key = this.key): string[] {
    return ['LOCK.CHECK', key, this.owner, ...this.fenced()];
  }

  lose(reason: string): void {
    if (this.reason || this.released) return;
    this.reason = reason;
    this.over.abort(new LockLostError(this.keys, reason));
  }
}

const closed = () => new LockError('CLOSED', 'these locks were closed');

/** A request that must still go out. */
interface Debt {
  key: string;
  args: string[];
  until: number;
  /** Not sent if this owner holds or waits again by then. */
  owner?: string;
}

/** All that one client waits for and holds. Renews what is due, tells of what is lost, ends what was dropped. */
export class Keeper {
  readonly link: Link;
  readonly holds = new Set<Hold>();
  readonly waits = new Set<Wait>();
  /** Those who have a place in line, by what they wait for, in the order in which they came. */
  readonly lines = new Map<string, Wait[]>();
  /** Whether turns may be told by messages; not if this user may not publish to the channel. */
  notify = true;
  private debts: Debt[] = [];
  private timer: NodeJS.Timeout | undefined;
  private planned = Infinity;
  private turning = false;
  private closing: Promise<void> | undefined;

  constructor(makeLink: (told: (owner: string) => void, busy: () => boolean) => Link) {
    const told = (owner: string) => {
      for (const wait of this.waits) if (wait.owner === owner) wait.wake();
    };
    this.link = makeLink(told, () => this.holds.size + this.waits.size + this.debts.length > 0);
  }

  add(hold: Hold): void {
    this.holds.add(hold);
    this.watch(Math.min(hold.due, hold.until));
  }

  forget(hold: Hold): boolean {
    const had = this.holds.delete(hold);
    if (this.holds.size === 0) this.link.rest();
    return had;
  }

  owe(debt: Debt): void {
    this.debts.push(debt);
    this.watch(now() + 300);
  }

  /** A request for a lock may be on its way yet: what it brings is given back, in a moment and when the client replies again. */
  disown(keys: readonly string[], owner: string, lease: number): void {
    const debt = { key: keys[0]!, args: cancellation(keys, owner), until: now() + lease, owner };
    this.owe(debt);
    void this.link.trouble?.then(() => this.owe({ ...debt, until: now() + lease }));
  }

  /** Ends all waits, gives back what is held and what is owed, and closes what was opened. */
  close(): Promise<void> {
    this.closing ??= (async () => {
      for (const wait of this.waits) wait.cancel(closed());
      const holds = [...this.holds].map((hold) => {
        this.lose(hold, 'closed');
        return this.ask(hold.key, hold.release(), 1000);
      });
      await Promise.allSettled([...holds, ...[...this.waits].map((wait) => wait.result)]);
      clearTimeout(this.timer);
      await Promise.allSettled(this.debts.splice(0).map(({ key, args }) => this.link.call(key, args, 500)));
      this.link.close();
    })();
    return this.closing;
  }

  /** Tries or waits. The result is a hold that is kept, or null. */
  async take(wanted: Wanted): Promise<Hold | null> {
    if (this.closing) throw closed();
    const wait = new Wait(this, wanted);
    this.waits.add(wait);
    try {
      const hold = await wait.result;
      if (hold) this.add(hold);
      return hold;
    } finally {
      this.waits.delete(wait);
      this.link.rest();
    }
  }

  private watch(due: number): void {
    if (due >= this.planned || this.turning || this.closing) return;
    this.planned = due;
    clearTimeout(this.timer);
    this.timer = setTimeout(() => void this.turn(), Math.max(0, due - now())).unref();
  }

  private async turn(): Promise<void> {
    this.turning = true;
    try {
      await this.work();
    } finally {
      this.turning = false;
    }
    this.planned = Infinity;
    let next = this.debts.length ? now() + 300 : Infinity;
    for (const hold of this.holds) next = Math.min(next, hold.due, hold.until);
    if (next < Infinity) this.watch(next);
    else this.link.rest();
  }

  private async work(): Promise<void> {
    const start = now();
    const work = [];
    for (const hold of [...this.holds]) {
      if (hold.until <= start) {
        this.lose(hold, 'lease-over');
      } else if (hold.renew && hold.due - start < hold.lease / 12) {
        work.push(this.renew(hold)); // who is due soon comes along in the same batch
      }
    }
    const owners = new Set([...this.holds, ...this.waits].map(({ owner }) => owner));
    for (const debt of this.debts.splice(0)) if (debt.until > start && !owners.has(debt.owner!)) work.push(this.pay(debt));
    await Promise.all(work);
  }

  private async renew(hold: Hold): Promise<void> {
    const sent = now();
    let ms: number;
    try {
      ms = left(await this.link.call(hold.key, hold.renewal(), Math.min(REPLY, Math.max(50, (hold.until - sent) / 3))));
    } catch (error) {
      if (codeOf(error) !== 'WRONGTYPE') { // again soon, as long as the lease lasts
        hold.due = now() + Math.min(1000, hold.lease / 12) * (0.5 + 0.5 * Math.random());
        return;
      }
      ms = 0;
    }
    if (ms > 0) {
      hold.until = sent + ms;
      hold.plan();
    } else if (this.holds.has(hold)) { // and was not released meanwhile
      this.lose(hold, await this.why(hold));
    }
  }

  private async pay(debt: Debt): Promise<void> {
    await this.link.call(debt.key, debt.args).catch((error) => {
      if (passing(error)) this.debts.push(debt);
    });
  }

  lose(hold: Hold, reason: string): void {
    if (this.forget(hold)) hold.lose(reason);
  }

  /** Nobody has the lock object any more: the hold is given back. */
  drop(hold: Hold): void {
    if (!this.forget(hold)) return;
    this.owe({ key: hold.key, args: hold.release(), until: hold.until });
  }

  /** Sends a request that may be sent twice, and replies the same. */
  async ask(key: string, args: string[], limit = REPLY): Promise<unknown> {
    for (let turn = 1; ; turn += 1) {
      try {
        return await this.link.call(key, args, limit);
      } catch (error) {
        if (turn === 3 || !passing(error)) throw error;
      }
      await sleep(turn * (20 + 80 * Math.random()));
    }
  }

  /** Sends what only the holder may say: what is left or how many were released. Fails if the hold has ended. */
  async settle(hold: Hold, args: string[]): Promise<number> {
    let reply = 0;
    try {
      reply = left(await this.ask(hold.key, args));
    } catch (error) {
      if (codeOf(error) !== 'WRONGTYPE') throw error;
    }
    if (reply > 0) return reply;
    const reason = hold.reason || (await this.why(hold));
    this.lose(hold, reason);
    throw new LockLostError(hold.keys, reason);
  }

  /** Why a hold has ended, in the server's word. */
  private async why(hold: Hold): Promise<string> {
    for (const key of hold.keys) {
      try {
        const reply = await this.link.call(key, [...hold.check(key), 'WITHINFO'], 1000);
        const flat = Array.isArray(reply) ? reply : Object.entries(reply instanceof Map ? Object.fromEntries(reply) : (reply as object)).flat();
        const at = (name: string) => flat[flat.findIndex((word) => String(word) === name) + 1];
        if (Number(at('result')) === 0) return String(at('reason'));
      } catch (error) {
        if (codeOf(error) === 'WRONGTYPE') return 'overwritten';
      }
    }
    return 'unknown';
  }
}

/** What a call wants. */
export interface Wanted {
  keys: readonly string[];
  owner: string;
  mode: string[];
  lease: number;
  renew: boolean;
  /** ms to wait; 0 is a try, Infinity is for ever. */
  wait: number;
  signal: AbortSignal | undefined;
}

/**
 * One try to have the lock, or one wait in line, under one owner from the first request to the last. Each request is
 * answered at once and keeps the place; when the turn comes a message says so, and the next request claims the lock.
 */
export class Wait {
  /** A hold, or null. When it settles otherwise than with a hold, neither a place in line nor a grant is left. */
  readonly result: Promise<Hold | null>;
  private readonly place: string;
  private readonly base: string[];
  private readonly stop: number;
  private readonly ended = new AbortController();
  private good = now(); // when the server last gave a reply that counts
  private asked = false;
  private asking = false; // whether a request may be under way
  private joined = false;
  private again = false;
  private called = false;
  private resume: (soon: number) => void = nothing;

  constructor(private readonly keeper: Keeper, private readonly wanted: Wanted) {
    const { keys, owner, lease, mode } = wanted;
    this.place = JSON.stringify(keys);
    this.base = keys.length === 1 ? ['LOCK.ACQUIRE', keys[0]!, owner] : ['LOCK.MACQUIRE', owner, String(keys.length), ...keys];
    this.base.push('PX', String(lease), ...mode);
    this.stop = this.good + wanted.wait;
    this.result = this.run();
  }

  get owner(): string {
    return this.wanted.owner;
  }

  /** Its turn may have come: ask now. */
  wake(): void {
    this.called = true;
    this.resume(0);
  }

  cancel(reason: unknown): void {
    this.ended.abort(reason);
    this.resume(0);
  }

  private async run(): Promise<Hold | null> {
    const { signal, wait } = this.wanted;
    const cancel = () => this.cancel(signal!.reason);
    signal?.addEventListener('abort', cancel);
    let hold: Hold | null = null;
    try {
      signal?.throwIfAborted();
      hold = await this.stand();
      return hold;
    } finally {
      signal?.removeEventListener('abort', cancel);
      if (!hold && this.asked && (wait > 0 || this.asking)) await this.giveUp();
      this.leave();
    }
  }

  private async stand(): Promise<Hold | null> {
    const { wanted: { wait }, ended: { signal } } = this;
    for (;;) {
      let pause: number, failure: unknown;
      try {
        this.called = false;
        const hold = await this.once();
        if (hold) return hold;
        this.good = now();
        pause = wait > 0 ? await this.join() : 0;
      } catch (error) {
        signal.throwIfAborted();
        pause = this.judge(error);
        if (codeOf(error) !== 'WRONGTYPE') failure = error;
      }
      const rest = wait > 0 ? this.stop - now() : failure ? pause : 0;
      if (rest > 0) await this.pause(Math.min(pause, rest));
      signal.throwIfAborted();
      if (rest <= 0 || (wait > 0 && now() >= this.stop)) {
        if (failure) throw failure;
        return null;
      }
    }
  }

  private async once(): Promise<Hold | null> {
    const { keeper, wanted: { keys, owner, lease, renew, wait }, ended: { signal } } = this;
    const words = wait > 0 ? ['QUEUE', String(TICKET)] : [];
    if (wait > 0 && keeper.notify && keeper.link.listening) words.push('NOTIFY', keeper.link.channel);
    const sent = now();
    this.asked = this.asking = true;
    const reply = await keeper.link.call(keys[0]!, [...this.base, ...words], REPLY, signal);
    this.asking = false;
    if (reply === null) return null;
    const hold = new Hold(keys, owner, toFence(reply), lease, sent + lease, renew);
    hold.doubt = this.again;
    return hold;
  }

  /** Takes a place among those of this process. Tells after how many ms to ask again. */
  private async join(): Promise<number> {
    const { lines, link, notify } = this.keeper;
    let line = lines.get(this.place);
    if (!line) lines.set(this.place, (line = []));
    if (!this.joined) line.push(this);
    this.joined = true;
    if (notify && !link.listening) {
      await link.listen(this.ended.signal);
      if (link.listening) return 0; // the ticket does not have the channel yet
    }
    // A line is served from the front, so only the first must ask often.
    const often = line[0] === this || this.wanted.keys.length > 1 ? ASK.first : ASK.others;
    return vary(link.listening && notify ? often.told : often.deaf);
  }

  private leave(): void {
    const line = this.keeper.lines.get(this.place);
    if (!line || !this.joined) return;
    line.splice(line.indexOf(this), 1);
    if (line[0]) line[0].resume(ASK.first.told);
    else this.keeper.lines.delete(this.place);
  }

  private async pause(ms: number): Promise<void> {
    if (this.called || this.ended.signal.aborted) return;
    await new Promise<void>((resolve) => {
      let timer = setTimeout(resolve, ms);
      this.resume = (soon) => {
        clearTimeout(timer);
        if (soon > 0) timer = setTimeout(resolve, Math.min(soon, ms));
        else resolve();
      };
    });
    this.resume = nothing;
  }

  /** After how many ms to ask again. Throws what asking again cannot mend. */
  private judge(error: unknown): number {
    const { wanted: { wait }, keeper } = this;
    const code = codeOf(error);
    if (code !== undefined) this.asking = false;
    if (code === 'WRONGTYPE') { // a string: somebody who uses SET NX has the lock
      this.good = now();
      return vary(STRING);
    }
    if (code === 'NOPERM' && keeper.notify && keeper.link.listening && wait > 0 && this.joined) {
      keeper.notify = false; // not even for this channel; so ask more often instead
      return 1;
    }
    if (!passing(error)) {
      throw code && error instanceof Error ? new LockError(code, error.message, { cause: error }) : error;
    }
    if (keeper.link.closed || (wait > 0 ? now() - this.good > PATIENCE : this.again)) throw error;
    this.again = true;
    return 20 + 180 * Math.random();
  }

  /** Leaves neither a place in line nor a grant that came in the last moment. */
  private async giveUp(): Promise<void> {
    const { keeper, wanted: { keys, owner, lease } } = this;
    let sure = !this.asking;
    await keeper.link.call(keys[0]!, cancellation(keys, owner), 1000).catch((error) => {
      sure &&= codeOf(error) !== undefined; // a string is there now, so neither the lock nor the line
    });
    if (!sure) keeper.disown(keys, owner, lease);
  }
}
