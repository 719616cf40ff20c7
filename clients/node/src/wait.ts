/** A wait in line, or a try: which request is sent when, and what its reply means. */

import { LockBusyError, LockError, asLockError, codeOf, passing } from './errors.js';
import { ACQUIRE, type Hold, RELEASE, vary } from './hold.js';
import { type Keeper, closed } from './keeper.js';
import { REPLY } from './link.js';
import { Lock } from './lock.js';
import { type Caller, nothing, now } from './timer.js';

const TICKET = '5000'; // ms for which a place in line outlives the last request for it
const PATIENCE = 10_000; // ms without one good reply, after which a wait ends with the last error
// A string: somebody who uses SET NX has the lock. And after a failover: it is ours, or was, and this is known when the recovery
// window is over.
const BUSY = new Set(['WRONGTYPE', 'RECOVERING']);
const LOOK = 100; // ms between two requests then
// ms between two requests of one who waits. A turn must be claimed within `lock.claim-ms`, 1 s, and a message may be lost.
const ASK = { first: { told: 700, deaf: 250 }, others: { told: 2000, deaf: 800 } };

/** A fence as the server wrote it. A client may hand over a number, a string or a BigInt, but never a rounded number. */
function toFence(reply: unknown): string {
  if (typeof reply === 'number' && !Number.isSafeInteger(reply)) {
    throw new LockError('ROUNDED', `the client has rounded the fence ${reply}; let it reply with strings`);
  }
  return String(reply);
}

/**
 * One try to have the lock, or one wait in line, under one owner from the first request to the last. Each request is
 * answered at once and keeps the place; when the turn comes a message says so, and the next request claims the lock.
 */
export class Wait implements Caller {
  cancelled: Caller['cancelled'];
  stop: NonNullable<Caller['stop']> = nothing;
  /** The lock, or null. Without one neither a place in line nor a grant is left when this settles. */
  readonly done: Promise<Lock | null>;
  sent = 0;
  private end = Infinity;
  private good = 0; // when the server last gave a reply that counts
  private asking = false; // whether a request may be under way
  private joined = false;
  private again = false; // whether some request got no reply
  private called = false;
  private resume: (soon: number) => void = nothing;

  /** `wait`: ms to wait; 0 is a try, Infinity is for ever. `orNull`: whether to be busy is no error. */
  constructor(
    private readonly keeper: Keeper, readonly hold: Hold, private readonly wait: number, private readonly orNull: boolean, signal?: AbortSignal,
  ) {
    this.done = this.take(signal);
  }

  private get line(): string {
    return JSON.stringify(this.hold.keys);
  }

  /** Its turn may have come: ask now. */
  wake(): void {
    this.called = true;
    this.resume(0);
  }

  cancel(reason: unknown): void {
    this.cancelled ??= { reason };
    this.stop(reason);
    this.resume(0);
  }

  private async take(signal?: AbortSignal): Promise<Lock | null> {
    const { keeper, hold, wait } = this;
    if (keeper.closing) throw closed();
    signal?.throwIfAborted();
    if (hold.keys.length === 0) throw new RangeError('no key was given');
    const place = keeper.waits.add(this);
    const cancel = signal && (() => this.cancel(signal.reason));
    if (cancel) signal.addEventListener('abort', cancel);
    this.good = this.sent = now();
    this.end = this.good + wait;
    let lock: Lock | null = null;
    try {
      for (;;) {
        let pause: number, failure: unknown;
        try {
          const reply = await this.ask();
          if (reply !== null) this.go(); // or it is given back
          this.asking = false;
          if (reply !== null) {
            hold.fence = toFence(reply);
            hold.doubt = this.again;
            hold.lasts(this.sent, Math.min(hold.lease, hold.most));
            lock = new Lock(keeper, hold);
            keeper.add(hold, lock);
            return lock;
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
        this.sent = now();
        if (rest <= 0 || (wait > 0 && this.sent >= this.end)) {
          if (failure) throw failure;
          if (this.orNull) return null;
          throw new LockBusyError(hold.keys, wait);
        }
      }
    } finally {
      if (cancel) signal.removeEventListener('abort', cancel);
      if (!lock && (wait > 0 || this.asking)) await this.giveUp();
      if (this.joined) this.leave();
      place.leave();
      keeper.link.rest();
    }
  }

  /** Goes on, unless it was cancelled. */
  private go(): void {
    if (this.cancelled) throw this.cancelled.reason;
  }

  private ask(): Promise<unknown> {
    const { keeper: { link, notify }, hold, wait } = this;
    const args = hold.about(ACQUIRE);
    args.push('PX', String(hold.lease));
    if (hold.mode.length > 0) args.push(...hold.mode);
    if (hold.most < Infinity) args.push('MAXHOLD', String(hold.most));
    if (wait > 0) args.push('QUEUE', TICKET);
    if (wait > 0 && notify && link.listening) args.push('NOTIFY', link.channel);
    this.called = false;
    this.asking = true;
    return link.call(hold.key, args, REPLY, this);
  }

  /** Takes a place among those of this process. Tells after how many ms to ask again. */
  private async join(): Promise<number> {
    const { lines, link, notify } = this.keeper;
    let line = lines.get(this.line);
    if (!line) lines.set(this.line, (line = []));
    if (!this.joined) line.push(this);
    this.joined = true;
    if (notify && !link.listening) {
      await link.listen(this);
      if (link.listening) return 0; // the ticket does not have the channel yet
    }
    // A line is served from the front, so only the first must ask often.
    const often = line[0] === this || this.hold.keys.length > 1 ? ASK.first : ASK.others;
    return vary(link.listening && notify ? often.told : often.deaf);
  }

  private leave(): void {
    const line = this.keeper.lines.get(this.line)!;
    line.splice(line.indexOf(this), 1);
    if (line[0]) line[0].resume(ASK.first.told);
    else this.keeper.lines.delete(this.line);
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
    const { wait, keeper, hold } = this;
    const code = codeOf(error);
    // A client that sends again by itself may have got the lock with a reply that was lost.
    if (code !== undefined) this.asking = code === 'RECOVERING' && (this.again || !hold.named);
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
    const { keeper, hold } = this;
    let sure = !this.asking && !(this.again && keeper.link.trouble);
    await keeper.link.call(hold.key, [...hold.about(RELEASE), 'CANCEL'], 1000).catch((error) => {
      sure &&= codeOf(error) !== undefined; // a string is there now, so neither the lock nor the line
    });
    if (!sure) keeper.disown(hold);
  }
}
