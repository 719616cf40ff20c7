/** Holds that are kept: renewed in time, told of when they are lost, given back when nobody has them any more. */

import { setTimeout as sleep } from 'node:timers/promises';
import { LockError, LockLostError, asLockError, codeOf, passing } from './errors.js';
import { type Hold, RELEASE, reasonIn, vary } from './hold.js';
import { Link, REPLY, type RedisClient } from './link.js';
import type { Lock } from './lock.js';
import { Ring } from './ring.js';
import { Timer, now } from './timer.js';
import type { Wait } from './wait.js';

/** What is left of the lease in ms, the least of several. */
const left = (reply: unknown): number => (Array.isArray(reply) ? Math.min(...reply.map(Number)) : Number(reply));

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
  readonly waits = new Ring<Wait>();
  /** Those who have a place in line, by what they wait for, in the order in which they came. */
  readonly lines = new Map<string, Wait[]>();
  /** Whether turns may be told by messages; not if this user may not publish to the channel. */
  notify = true;
  closing: Promise<void> | undefined;
  private readonly fresh = new Ring<Hold>();
  private readonly old = new Ring<Hold>();
  private ageing: NodeJS.Timeout | undefined;
  /** Nobody has the lock object any more: the hold is given back. */
  private readonly dropped = new FinalizationRegistry((hold: Hold) => {
    // Unless the same owner has it once more.
    const twin = (other: Hold) => other.owner === hold.owner && other.fence === hold.fence;
    if (hold.place?.leave() && !this.holds.some(twin)) this.repay(hold);
  });
  private debts: Debt[] = [];
  private readonly timer = new Timer(() => this.turn());
  private looking = false;

  constructor(client: RedisClient) {
    this.link = new Link(client, this);
  }

  add(hold: Hold, lock: Lock): void {
    hold.lock = lock;
    hold.place = this.fresh.add(hold);
    this.ageing ??= setTimeout(() => this.age(), 5).unref();
    this.plan(hold);
    if (hold.watch) void this.look();
  }

  /** From now on it is noticed when the program drops a lock. That is dear, and most are given back before. */
  private age(): void {
    this.ageing = undefined;
    for (const hold of this.fresh.all) {
      hold.place?.leave();
      hold.place = this.old.add(hold);
      this.dropped.register(hold.lock!, hold);
      hold.lock = undefined;
    }
  }

  private get holds(): Hold[] {
    return [...this.old.all, ...this.fresh.all];
  }

  get busy(): boolean {
    return this.holds.length + this.waits.all.length + this.debts.length > 0;
  }

  /** The turn of an owner may have come. */
  told(owner: string): void {
    for (const wait of this.waits.all) if (wait.hold.owner === owner) wait.wake();
  }

  /** Something has happened to these keys, or it is not known to which. */
  changed(keys?: string[]): void {
    for (const hold of this.holds) if (!keys || hold.keys.some((key) => keys.includes(key))) hold.look = hold.watch;
    void this.look();
  }

  private owe(debt: Debt): void {
    this.debts.push(debt);
    this.timer.by(now() + 300);
  }

  private repay(hold: Hold): void {
    this.owe({ key: hold.key, args: hold.release(), until: hold.until });
  }

  /** A request for a lock may be on its way yet: what it brings is given back, in a moment and when the client replies again. */
  disown(hold: Hold): void {
    const owe = () => this.owe({ key: hold.key, args: [...hold.about(RELEASE), 'CANCEL'], until: now() + hold.lease, owner: hold.owner });
    owe();
    void this.link.trouble?.then(owe);
  }

  /** Ends all waits, gives back what is held and what is owed, and closes what was opened. */
  close(): Promise<void> {
    return (this.closing ??= this.end());
  }

  private async end(): Promise<void> {
    this.timer.stop();
    for (const wait of this.waits.all) wait.cancel(closed());
    const holds = this.holds.map((hold) => {
      this.lose(hold, 'closed');
      return this.ask(hold.key, hold.release(), 1000);
    });
    await Promise.allSettled([...holds, ...this.waits.all.map((wait) => wait.done)]);
    await Promise.allSettled(this.debts.splice(0).map(({ key, args }) => this.link.call(key, args, 500)));
    this.link.close();
  }

  private plan(hold: Hold): void {
    this.timer.by(Math.min(hold.due, hold.until));
  }

  private turn(): void {
    const start = now();
    this.link.together(() => {
      for (const hold of this.holds) {
        if (hold.until <= start) this.lose(hold, 'lease-over');
        else if (hold.renew && hold.due - start < hold.lease / 12) void this.renew(hold); // who is due soon comes along
      }
    });
    const owners = new Set([...this.holds, ...this.waits.all.map(({ hold }) => hold)].map(({ owner }) => owner));
    for (const debt of this.debts.splice(0)) if (debt.until > start && !owners.has(debt.owner!)) {
      void this.link.call(debt.key, debt.args).catch((error) => passing(error) && this.owe(debt));
    }
    for (const hold of this.holds) this.plan(hold);
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
    if (hold.released || hold.reason) return; // it was released or lost meanwhile
    if (ms === 0) return this.lose(hold, await this.why(hold));
    if (ms > 0) hold.lasts(sent, ms);
    // After an error again soon, as long as the lease lasts, and at once if there is now another way.
    else hold.due = now() + (!trouble && this.link.trouble ? 0 : Math.min(1000, hold.lease / 12) * (0.5 + 0.5 * Math.random()));
    this.plan(hold);
    hold.look = hold.watch; // what was told meanwhile may have been lost with a connection
    if (hold.watch) void this.look();
  }

  /** Asks about the watched holds that may have ended, all in one go. Of what is not heard so the next renewal tells. */
  private async look(): Promise<void> {
    const holds = this.holds.filter((hold) => hold.look);
    if (this.looking || !this.link.watches || this.closing || holds.length === 0) return;
    this.looking = true;
    for (const hold of holds) hold.look = false;
    const looks = holds.flatMap((hold) => hold.keys.map((key) => ({ hold, check: hold.check(key) })));
    try {
      const replies = await this.link.look(looks.map(({ check }) => check));
      looks.forEach(({ hold }, i) => this.seen(hold, reasonIn(replies[i])));
    } catch (error) {
      this.link.watches = codeOf(error) !== 'NOPERM';
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

  /** Why it was lost, as far as it is known here. */
  lost(hold: Hold): string {
    if (now() >= hold.until) this.lose(hold, 'lease-over');
    return hold.reason;
  }

  /** Asks the server whether it is held. */
  async held(hold: Hold): Promise<boolean> {
    for (const key of hold.keys) {
      if (hold.released || this.lost(hold)) return false;
      const reason = reasonIn(await this.ask(key, hold.check(key)));
      if (this.seen(hold, reason)) return false;
      // After a failover: a renewal brings it back, or tells that it is lost.
      if (reason) await this.settle(hold).catch((error) => { if (!(error instanceof LockLostError)) throw error; });
    }
    return !hold.released && !this.lost(hold);
  }

  async extend(hold: Hold, lease: number): Promise<void> {
    hold.mine('extend');
    if (this.lost(hold)) throw new LockLostError(hold.keys, hold.reason);
    const sent = now();
    const ms = await this.settle(hold, lease).catch((error) => {
      if (hold.renew) hold.due = sent; // whatever the server has made of it: the next renewal says the old lease again
      this.plan(hold);
      throw error;
    });
    hold.lease = lease;
    hold.lasts(sent, ms);
    this.plan(hold);
  }

  async release(hold: Hold): Promise<void> {
    hold.mine('release');
    hold.released = true;
    hold.place?.leave();
    try {
      if (!(left(await this.ask(hold.key, hold.release())) > 0)) await this.gone(hold);
    } catch (error) {
      if (!(error instanceof LockLostError)) this.repay(hold);
      else if (hold.keys.length > 1) await this.ask(hold.key, hold.about(RELEASE)); // one of them was lost, and none was released
      throw error;
    } finally {
      if (hold.doubt && this.link.trouble) this.disown(hold);
      this.link.rest();
    }
    if (hold.reason) throw new LockLostError(hold.keys, hold.reason); // by our clock, and the server had it yet
  }

  lose(hold: Hold, reason: string): void {
    if (hold.place?.leave()) hold.lose(reason);
    this.link.rest();
  }

  /** Sends a request that may be sent twice, and replies the same. That somebody has written over the lock is a reply, too. */
  private ask(key: string, args: string[], limit = REPLY, turn = 1): Promise<unknown> {
    return this.link.call(key, args, limit, undefined, async (error) => {
      if (codeOf(error) === 'WRONGTYPE') return error;
      if (turn === 3 || !passing(error)) throw asLockError(error);
      await sleep(turn * (20 + 80 * Math.random()));
      return this.ask(key, args, limit, turn + 1);
    });
  }

  /** Renews it now, and tells what is left. Fails if the hold has ended. */
  private async settle(hold: Hold, lease = hold.lease): Promise<number> {
    const ms = left(await this.ask(hold.key, hold.renewal(lease)));
    return ms > 0 ? ms : this.gone(hold);
  }

  private async gone(hold: Hold): Promise<never> {
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
