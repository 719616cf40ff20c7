/** Holds that are kept: renewed in time, told of when they are lost, given back when nobody has them any more. */

import { randomUUID } from 'node:crypto';
import { hostname } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { LockError, LockLostError, asLockError, codeOf, passing } from './errors.js';
import { type Link, REPLY } from './link.js';
import { Timer, now } from './timer.js';
import type { Wait } from './wait.js';

export const LEASE = 30_000; // ms; renewed at a third of it

const HOST = hostname().replace(/[^\w.-]/g, '').slice(0, 64);
export const newOwner = () => `${HOST}:${process.pid}:${randomUUID()}`;
export const vary = (ms: number) => ms * (0.85 + 0.15 * Math.random());

/** A request for the keys of an owner. With several it is another command, which says how many they are. */
export const about = (verb: string, keys: readonly string[], owner: string, ...words: string[]) => (keys.length === 1
  ? [`LOCK.${verb}`, keys[0]!, owner, ...words]
  : [`LOCK.M${verb}`, owner, String(keys.length), ...keys, ...words]);

/** What is left of the lease in ms, the least of several. */
const left = (reply: unknown): number => (Array.isArray(reply) ? Math.min(...reply.map(Number)) : Number(reply));

/** What a call wants. */
export interface Wanted {
  keys: readonly string[];
  owner: string;
  /** Whether the program chose this owner, who may have the lock by another call then. */
  named: boolean;
  mode: string[];
  lease: number;
  renew: boolean;
  watch: boolean;
  /** ms to wait; 0 is a try, Infinity is for ever. */
  wait: number;
  signal: AbortSignal | undefined;
}

/** One grant. It outlives the object that the program has. */
export class Hold {
  private over: AbortController | undefined;
  readonly keys: readonly string[];
  readonly owner: string;
  readonly mode: readonly string[];
  readonly renew: boolean;
  readonly watch: boolean;
  lease: number;
  until: number;
  due = 0;
  /** Why it has ended, if it has ended without a release. */
  reason = '';
  released = false;
  /** Whether the server is to be asked whether it is still held. */
  look: boolean;

  /** `doubt`: an older request of this owner got no reply, and may still be obeyed. */
  constructor({ keys, owner, mode, lease, renew, watch }: Wanted, readonly fence: bigint, sent: number, readonly doubt: boolean) {
    this.keys = keys;
    this.owner = owner;
    this.mode = mode;
    this.lease = lease;
    this.renew = renew;
    this.look = this.watch = watch;
    this.until = sent + lease;
    this.plan();
  }

  get key(): string {
    return this.keys[0]!;
  }

  /** Aborts when it is lost. Made for who asks for it. */
  get signal(): AbortSignal {
    this.over ??= new AbortController();
    if (this.reason) this.over.abort(new LockLostError(this.keys, this.reason));
    return this.over.signal;
  }

  plan(): void {
    this.due = this.renew ? now() + vary(this.lease / 3) : this.until;
  }

  /** Says all that a server needs to bring back a hold that a failover has lost. */
  renewal(): string[] {
    const { keys, owner, lease, mode } = this;
    const same = ['FENCE', String(this.fence), ...mode];
    return keys.length === 1
      ? about('RENEW', keys, owner, 'PX', String(lease), ...same)
      : ['LOCK.MRENEW', owner, String(lease), String(keys.length), ...keys, ...same];
  }

  release(): string[] {
    return about('RELEASE', this.keys, this.owner, 'FENCE', String(this.fence));
  }

  check(key: string): string[] {
    return ['LOCK.CHECK', key, this.owner, 'FENCE', String(this.fence), 'WITHINFO'];
  }

  lose(reason: string): void {
    if (this.reason || this.released) return;
    this.reason = reason;
    this.over?.abort(new LockLostError(this.keys, reason));
  }
}

/** Why there is no hold, in the server's word; undefined if there is one, or nothing is known. */
function reasonIn(reply: unknown): string | undefined {
  if (reply instanceof Error) return codeOf(reply) === 'WRONGTYPE' ? 'overwritten' : undefined;
  const flat = Array.isArray(reply) ? reply : Object.entries(reply instanceof Map ? Object.fromEntries(reply) : (reply as object)).flat();
  const at = (name: string) => flat[flat.findIndex((word) => String(word) === name) + 1];
  return Number(at('result')) === 0 ? String(at('reason')) : undefined;
}

export const closed = () => new LockError('CLOSED', 'these locks were closed');

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
  private readonly timer = new Timer(() => this.turn());
  closing: Promise<void> | undefined;
  private looking = false;
  private watches: boolean;

  constructor(makeLink: (told: (owner: string) => void, changed: (keys?: string[]) => void, busy: () => boolean) => Link) {
    const told = (owner: string) => {
      for (const wait of this.waits) if (wait.owner === owner) wait.wake();
    };
    const changed = (keys?: string[]) => {
      for (const hold of this.holds) if (!keys || hold.keys.some((key) => keys.includes(key))) hold.look = hold.watch;
      void this.look();
    };
    this.link = makeLink(told, changed, () => this.holds.size + this.waits.size + this.debts.length > 0);
    this.watches = this.link.watches;
  }

  add(hold: Hold): void {
    this.holds.add(hold);
    this.watch(Math.min(hold.due, hold.until));
    if (hold.watch) void this.look();
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
    const debt = { key: keys[0]!, args: about('RELEASE', keys, owner, 'CANCEL'), until: now() + lease, owner };
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
      await Promise.allSettled([...holds, ...[...this.waits].map((wait) => wait.run())]);
      this.timer.stop();
      await Promise.allSettled(this.debts.splice(0).map(({ key, args }) => this.link.call(key, args, 500)));
      this.link.close();
    })();
    return this.closing;
  }

  private watch(due: number): void {
    if (!this.closing) this.timer.by(due);
  }

  private turn(): void {
    const start = now();
    this.link.together(() => {
      for (const hold of this.holds) {
        if (hold.until <= start) this.lose(hold, 'lease-over');
        else if (hold.renew && hold.due - start < hold.lease / 12) void this.renew(hold); // who is due soon comes along
      }
    });
    const owners = new Set([...this.holds, ...this.waits].map(({ owner }) => owner));
    for (const debt of this.debts.splice(0)) if (debt.until > start && !owners.has(debt.owner!)) void this.pay(debt);
    for (const hold of this.holds) this.watch(Math.min(hold.due, hold.until));
    this.link.rest();
  }

  private async renew(hold: Hold): Promise<void> {
    const sent = now();
    const { trouble } = this.link;
    hold.due = Infinity; // not once more meanwhile
    let ms = 0;
    try {
      ms = left(await this.link.call(hold.key, hold.renewal(), Math.min(REPLY, Math.max(50, (hold.until - sent) / 4))));
    } catch (error) {
      const code = codeOf(error);
      if (code === 'NOPERM' || code === 'BADARG') return this.lose(hold, code); // asking again would not help
      if (code !== 'WRONGTYPE') ms = -1;
    }
    if (!this.holds.has(hold)) return; // it was released or lost meanwhile
    if (ms === 0) return this.lose(hold, await this.why(hold));
    if (ms > 0) hold.until = sent + ms;
    hold.plan();
    hold.look = hold.watch; // what was told meanwhile may have been lost with a connection
    if (hold.watch) void this.look();
    // After an error again soon, as long as the lease lasts, and at once if there is now another way.
    if (ms < 0) hold.due = now() + (!trouble && this.link.trouble ? 0 : Math.min(1000, hold.lease / 12) * (0.5 + 0.5 * Math.random()));
    this.watch(Math.min(hold.due, hold.until));
  }

  /** Asks about the watched holds that may have ended, all in one go. Of what is not heard so the next renewal tells. */
  private async look(): Promise<void> {
    const holds = [...this.holds].filter((hold) => hold.look);
    if (this.looking || !this.watches || this.closing || holds.length === 0) return;
    this.looking = true;
    for (const hold of holds) hold.look = false;
    const looks = holds.flatMap((hold) => hold.keys.map((key) => ({ hold, check: hold.check(key) })));
    try {
      const replies = await this.link.look(looks.map(({ check }) => check));
      looks.forEach(({ hold }, i) => this.seen(hold, reasonIn(replies[i])));
    } catch (error) {
      this.watches = codeOf(error) !== 'NOPERM';
      for (const hold of holds) hold.look = true;
      await sleep(vary(200), undefined, { ref: false });
    }
    this.looking = false;
    void this.look();
  }

  /** What the server says of a hold. Tells of a loss, and whether there was one. */
  private seen(hold: Hold, reason?: string): boolean {
    if (!reason || reason === 'recovering') return false; // after a failover: a renewal brings it back
    this.lose(hold, reason);
    return true;
  }

  /** Asks the server whether it is held. */
  async held(hold: Hold): Promise<boolean> {
    for (const key of hold.keys) {
      const reply = await this.ask(key, hold.check(key)).catch((error) => {
        if (codeOf(error) !== 'WRONGTYPE') throw asLockError(error);
        return error;
      });
      const reason = reasonIn(reply);
      if (this.seen(hold, reason)) return false;
      if (reason) await this.settle(hold, hold.renewal());
    }
    return true;
  }

  private async pay(debt: Debt): Promise<void> {
    await this.link.call(debt.key, debt.args).catch((error) => {
      if (passing(error)) this.owe(debt);
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
      if (codeOf(error) !== 'WRONGTYPE') throw asLockError(error);
    }
    if (reply > 0) return reply;
    const reason = hold.reason || (await this.why(hold));
    this.lose(hold, reason);
    throw new LockLostError(hold.keys, reason);
  }

  /** Why a hold has ended, in the server's word. */
  private async why(hold: Hold): Promise<string> {
    for (const key of hold.keys) {
      const reason = reasonIn(await this.link.call(key, hold.check(key), 1000).catch((error) => error));
      if (reason) return reason;
    }
    return 'unknown';
  }
}

