/** A wait in line, or a try: which request is sent when, and what its reply means. */

import { LockError, asLockError, codeOf, passing } from './errors.js';
import { Hold, type Keeper, type Wanted, about, closed, vary } from './keeper.js';
import { REPLY } from './link.js';
import { type Caller, nothing, now } from './timer.js';

const TICKET = 5000; // ms for which a place in line outlives the last request for it
const PATIENCE = 10_000; // ms without one good reply, after which a wait ends with the last error
// A string: somebody who uses SET NX has the lock. And after a failover: it is ours, or was, and this is known when the recovery
// window is over.
const BUSY = new Set(['WRONGTYPE', 'RECOVERING']);
const LOOK = 100; // ms between two requests then
// ms between two requests of one who waits. A turn must be claimed within `lock.claim-ms`, 1 s, and a message may be lost.
const ASK = { first: { told: 700, deaf: 250 }, others: { told: 2000, deaf: 800 } };

/** A fence as the server wrote it. A client may hand over a number, a string or a BigInt, but never a rounded number. */
function toFence(reply: unknown): bigint {
  if (typeof reply === 'number' && !Number.isSafeInteger(reply)) {
    throw new LockError('ROUNDED', `the client has rounded the fence ${reply}; let it reply with strings`);
  }
  return BigInt(typeof reply === 'number' ? reply : String(reply));
}

/**
 * One try to have the lock, or one wait in line, under one owner from the first request to the last. Each request is
 * answered at once and keeps the place; when the turn comes a message says so, and the next request claims the lock.
 */
export class Wait implements Caller {
  cancelled: Caller['cancelled'];
  stop: Caller['stop'];
  private result: Promise<Hold | null> | undefined;
  private readonly end: number;
  private good = now(); // when the server last gave a reply that counts
  private asked = false;
  private asking = false; // whether a request may be under way
  private joined = false;
  private again = false; // whether some request got no reply
  private called = false;
  private resume: (soon: number) => void = nothing;

  constructor(private readonly keeper: Keeper, private readonly wanted: Wanted) {
    this.end = this.good + wanted.wait;
  }

  get owner(): string {
    return this.wanted.owner;
  }

  private get place(): string {
    return JSON.stringify(this.wanted.keys);
  }

  /** Its turn may have come: ask now. */
  wake(): void {
    this.called = true;
    this.resume(0);
  }

  cancel(reason: unknown): void {
    this.cancelled ??= { reason };
    this.stop?.(reason);
    this.resume(0);
  }

  /** The result is a hold that is kept, or null. Without a hold neither a place in line nor a grant is left when it settles. */
  run(): Promise<Hold | null> {
    this.result ??= this.take();
    return this.result;
  }

  private async take(): Promise<Hold | null> {
    const { keeper, wanted: { signal, wait } } = this;
    if (keeper.closing) throw closed();
    keeper.waits.add(this);
    const cancel = signal && (() => this.cancel(signal.reason));
    if (cancel) signal.addEventListener('abort', cancel);
    let hold: Hold | undefined;
    try {
      signal?.throwIfAborted();
      for (;;) {
        let pause: number, failure: unknown;
        try {
          const sent = now();
          const reply = await this.ask();
          this.asking = false;
          if (reply !== null) {
            keeper.add((hold = new Hold(this.wanted, toFence(reply), sent, this.again)));
            return hold;
          }
          this.good = now();
          pause = wait > 0 ? await this.join() : 0;
        } catch (error) {
          this.go();
          pause = this.judge(error);
          if (!BUSY.has(codeOf(error)!)) failure = error;
        }
        const rest = wait > 0 ? this.end - now() : failure ? pause : 0;
        if (rest > 0) await this.pause(Math.min(pause, rest));
        this.go();
        if (rest <= 0 || (wait > 0 && now() >= this.end)) {
          if (failure) throw failure;
          return null;
        }
      }
    } finally {
      if (cancel) signal.removeEventListener('abort', cancel);
      if (!hold && this.asked && (wait > 0 || this.asking)) await this.giveUp();
      this.leave();
      keeper.waits.delete(this);
      keeper.link.rest();
    }
  }

  /** Goes on, unless it was cancelled. */
  private go(): void {
    if (this.cancelled) throw this.cancelled.reason;
  }

  private ask(): Promise<unknown> {
    const { keeper: { link, notify }, wanted: { keys, owner, mode, lease, wait } } = this;
    const args = about('ACQUIRE', keys, owner, 'PX', String(lease), ...mode);
    if (wait > 0) args.push('QUEUE', String(TICKET));
    if (wait > 0 && notify && link.listening) args.push('NOTIFY', link.channel);
    this.called = false;
    this.asked = this.asking = true;
    return link.call(keys[0]!, args, REPLY, this);
  }

  /** Takes a place among those of this process. Tells after how many ms to ask again. */
  private async join(): Promise<number> {
    const { lines, link, notify } = this.keeper;
    let line = lines.get(this.place);
    if (!line) lines.set(this.place, (line = []));
    if (!this.joined) line.push(this);
    this.joined = true;
    if (notify && !link.listening) {
      await link.listen(this);
      if (link.listening) return 0; // the ticket does not have the channel yet
    }
    // A line is served from the front, so only the first must ask often.
    const often = line[0] === this || this.wanted.keys.length > 1 ? ASK.first : ASK.others;
    return vary(link.listening && notify ? often.told : often.deaf);
  }

  private leave(): void {
    const line = this.joined && this.keeper.lines.get(this.place);
    if (!line) return;
    line.splice(line.indexOf(this), 1);
    if (line[0]) line[0].resume(ASK.first.told);
    else this.keeper.lines.delete(this.place);
  }

  private async pause(ms: number): Promise<void> {
    if (this.called || this.cancelled) return;
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
    // A client that sends again by itself may have got the lock with a reply that was lost.
    if (code !== undefined) this.asking = code === 'RECOVERING' && (this.again || !this.wanted.named);
    if (code !== undefined && BUSY.has(code)) {
      this.good = now();
      return vary(LOOK);
    }
    if (code === 'NOPERM' && keeper.notify && keeper.link.listening && wait > 0 && this.joined) {
      keeper.notify = false; // not even for this channel; so ask more often instead
      return 1;
    }
    if (!passing(error)) throw asLockError(error);
    if (keeper.link.closed || (wait > 0 ? now() - this.good > PATIENCE : this.again)) throw error;
    this.again = true;
    return 20 + 180 * Math.random();
  }

  /** Leaves neither a place in line nor a grant that came in the last moment. */
  private async giveUp(): Promise<void> {
    const { keeper, wanted: { keys, owner, lease } } = this;
    let sure = !this.asking && !(this.again && keeper.link.trouble);
    await keeper.link.call(keys[0]!, about('RELEASE', keys, owner, 'CANCEL'), 1000).catch((error) => {
      sure &&= codeOf(error) !== undefined; // a string is there now, so neither the lock nor the line
    });
    if (!sure) keeper.disown(keys, owner, lease);
  }
}
