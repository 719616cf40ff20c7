/**
 * The way to the server. Requests go over the client that the program has. While that one gives no replies, because its
 * connection is broken or somebody blocks it, they go over a connection of our own beside it; another one listens while
 * somebody waits. Both are opened when they are needed, dropped at their first failure, and closed when nothing is left to do.
 */

import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { codeOf } from './errors.js';
import type { Keeper } from './keeper.js';
import { type Caller, nothing, now, within } from './timer.js';

/** ioredis: `Redis` or `Cluster`. */
export interface IoredisClient {
  call(command: string, ...args: string[]): Promise<unknown>;
  duplicate(...args: any[]): any;
  on(event: string, listener: (...args: any[]) => void): unknown;
  off(event: string, listener: (...args: any[]) => void): unknown;
  readonly status: string;
}

/** node-redis: what `createClient` or `createCluster` returns. */
export interface NodeRedisClient {
  sendCommand(...args: any[]): Promise<unknown>;
  duplicate(...args: any[]): any;
  on(event: any, listener: (...args: any[]) => void): unknown;
  off(event: any, listener: (...args: any[]) => void): unknown;
  readonly isOpen: boolean;
}

export type RedisClient = IoredisClient | NodeRedisClient;

type Send = (key: string, args: string[]) => Promise<unknown>;

export const REPLY = 2000; // ms to wait for a reply; no request of this library blocks in the server
const INVALIDATE = '__redis__:invalidate'; // where a server tells RESP2 of what it tracks
const LINGER = 1000; // ms without anything to do, after which our own connections are closed

const isIoredis = (client: RedisClient): client is IoredisClient => 'call' in client;
const isCluster = (client: RedisClient) => 'masters' in client || ('isCluster' in client && client.isCluster === true);

/** The one way in which a command goes out, whatever the client. `key` tells a cluster of node-redis where to. */
function sender(client: RedisClient): Send {
  if (isIoredis(client)) return (_, args) => client.call(...(args as [string]));
  if (isCluster(client)) return (key, args) => client.sendCommand(key, false, args);
  return (_, args) => client.sendCommand(args);
}

/** The two clients differ in how they are told what is to be heard. */
function subscribe(twin: any, channel: string, event: 'message' | 'messageBuffer', hear: (message: any) => void): Promise<unknown> {
  if (!isIoredis(twin)) return twin.subscribe(channel, hear);
  twin.on(event, (_: unknown, message: unknown) => hear(message));
  return (twin as any).subscribe(channel);
}

/** The same client once more, not yet connected, which connects once and then fails rather than trying again by itself. */
function twin(client: RedisClient, more: object): any {
  if (isIoredis(client)) {
    const once = { lazyConnect: true, retryStrategy: () => null, clusterRetryStrategy: () => null };
    const watch = { failoverDetector: true, sentinelReconnectStrategy: () => 500 };
    const options = { ...once, ...watch, connectTimeout: REPLY, commandTimeout: undefined, maxRetriesPerRequest: null, keyPrefix: '', ...more };
    return isCluster(client) ? client.duplicate([], once) : client.duplicate(options);
  }
  const socket = { ...(client as any).options?.socket, reconnectStrategy: false, connectTimeout: REPLY };
  return isCluster(client) ? client.duplicate() : client.duplicate({ socket, disableOfflineQueue: false, ...more });
}

/** A connection of our own. */
class Side {
  private open: { twin: any; ready: Promise<Send> } | undefined;
  private making: any;

  constructor(
    private readonly client: RedisClient, private readonly prepare: (twin: any) => Promise<unknown> = async () => {},
    private readonly options = {},
  ) {}

  /** Opened if it is not, and ready for a request. */
  ready(): Promise<Send> {
    if (!this.open) {
      const made = twin(this.client, this.options);
      for (const event of ['error', 'end']) made.on(event, () => this.drop(made));
      if ('isReady' in made) { // node-redis leaves a connection open if it is destroyed while it makes it
        this.making = made;
        made.once('connect', () => {
          if (this.making === made) this.making = undefined;
          if (this.open?.twin !== made) this.drop(made);
        });
      }
      const connect = async () => {
        await made.connect();
        await this.prepare(made);
        return sender(made);
      };
      this.open = { twin: made, ready: connect() };
      this.open.ready.catch(() => this.drop(made));
    }
    return this.open.ready;
  }

  get isOpen(): boolean {
    return this.open !== undefined;
  }

  drop(which: any = this.open?.twin): void {
    if (this.open?.twin === which) this.open = undefined;
    if (which && this.making === which) return;
    try {
      if (which) 'call' in which ? which.disconnect() : which.destroy();
    } catch {
      // it was closed already
    }
  }
}

export class Link {
  private readonly send: Send;
  private readonly spare: Side;
  private readonly ear: Side;
  private readonly alarm: Side;
  private alarmId = '';
  /** Where turns are told. Nobody else knows this name. */
  readonly channel = `fencelock:${randomBytes(12).toString('hex')}`;
  /**
   * While requests go beside the client. Settles when it has replied again, to a request that stands behind all those that it was
   * sent before; never with Sentinel.
   */
  trouble: Promise<void> | undefined;
  /** Whether turns are told by messages just now. */
  listening = false;
  /** Whether changes can be heard of. */
  watches: boolean;
  private lingering: NodeJS.Timeout | undefined;
  private idle = 0; // since when there may be nothing to do
  private ended = false;

  constructor(private readonly client: RedisClient, private readonly keeper: Keeper) {
    if ('acquire' in client) throw new TypeError('a Sentinel client of node-redis goes on with an old primary; use ioredis');
    // After a failover the old primary goes on for some seconds as if nothing were. Our own connection is told, and leaves it.
    if (isIoredis(client) && (client as any).options?.sentinels) this.trouble = new Promise(nothing);
    this.send = sender(client);
    this.watches = !isCluster(client);
    this.spare = new Side(client);
    this.ear = new Side(client, async (twin) => {
      const deaf = () => { this.listening = false; };
      twin.on('error', deaf).on('end', deaf);
      await subscribe(twin, this.channel, 'message', (message: string) => {
        const [start, bytes] = /^[0-9]+ ([0-9]+) /.exec(message) ?? [];
        if (start) keeper.told(Buffer.from(message).subarray(start.length, start.length + Number(bytes)).toString());
      });
      this.listening = true;
    });
    this.alarm = new Side(client, async (twin) => {
      const hear = (keys: unknown[] | null) => keeper.changed(keys?.map(String));
      for (const event of ['error', 'end']) twin.on(event, () => hear(null));
      this.alarmId = String(await sender(twin)('', ['CLIENT', 'ID']));
      await subscribe(twin, INVALIDATE, 'messageBuffer', hear);
      keeper.changed();
    }, { RESP: 2, protocol: 2, maintNotifications: 'disabled', clientSideCache: undefined, emitInvalidate: false });
    client.on('error', nothing); // without a listener, a connection that is cut may end the process
  }

  /** Whether the program has closed its client. */
  get closed(): boolean {
    return this.ended || (isIoredis(this.client) ? this.client.status === 'end' : !this.client.isOpen);
  }

  /** Sends one request. Fails if there is no reply within `limit` ms, or replies what `mend` makes of a failure. */
  call(key: string, args: string[], limit = REPLY, caller?: Caller, mend?: (error: unknown) => Promise<unknown>): Promise<unknown> {
    const { trouble } = this;
    const reply = trouble ? this.spare.ready().then((send) => send(key, args)) : this.send(key, args);
    const said = within(reply, limit, (error) => {
      if (!caller?.cancelled && !codeOf(error)) {
        if (trouble) this.spare.drop();
        else this.trouble ??= this.probe(key);
      }
      return mend ? mend(error) : Promise.reject(error);
    }, caller);
    return trouble ? said.finally(() => this.rest()) : said;
  }

  private async probe(key: string): Promise<void> {
    while (!this.closed) {
      if (await this.send(key, ['LOCK.CHECK', key, 'fencelock']).then(() => true, codeOf)) break;
      await sleep(50 + 50 * Math.random(), undefined, { ref: false });
    }
    this.trouble = undefined;
  }

  /** What is sent meanwhile goes out together: ioredis writes each request by itself. */
  together(sends: () => void): void {
    const { client } = this;
    const nodes: any[] = !isIoredis(client) ? [] : isCluster(client) ? (client as any).nodes('master') : [client];
    const streams = nodes.map(({ stream }) => stream);
    for (const stream of streams) stream?.cork?.();
    sends();
    for (const stream of streams) stream?.uncork?.();
  }

  /**
   * Sends requests that read a key, and has the server tell of its changes from then on. Fails if it does not; not for a cluster,
   * where each node would have to.
   */
  async look(requests: string[][]): Promise<unknown[]> {
    try {
      const send = await within(this.alarm.ready().then(() => this.spare.ready()), REPLY);
      const [tracked, ...replies] = [['CLIENT', 'TRACKING', 'ON', 'REDIRECT', this.alarmId], ...requests].map((args) => send('', args));
      const said = await within(Promise.allSettled(replies), REPLY);
      await tracked;
      return said.map((one) => (one.status === 'fulfilled' ? one.value : one.reason));
    } catch (error) {
      for (const side of [this.alarm, this.spare]) if (!codeOf(error)) side.drop();
      throw error;
    }
  }

  /** Listens for turns; whether or not that succeeds, those who wait ask now and then. */
  async listen(caller: Caller): Promise<void> {
    await within(this.ear.ready(), REPLY, undefined, caller).catch(nothing);
  }

  /** Closes our own connections when there has been nothing to do for a while. */
  rest(): void {
    this.idle = now();
    if (this.lingering || !(this.spare.isOpen || this.ear.isOpen || this.alarm.isOpen) || this.keeper.busy) return;
    this.linger(LINGER);
  }

  private linger(ms: number): void {
    this.lingering = setTimeout(() => {
      this.lingering = undefined;
      if (this.keeper.busy) return;
      const left = this.idle + LINGER - now(); // of whoever has come and gone meanwhile
      if (left > 0) this.linger(left);
      else this.drop();
    }, ms).unref();
  }

  private drop(): void {
    for (const side of [this.spare, this.ear, this.alarm]) side.drop();
  }

  close(): void {
    this.ended = true;
    clearTimeout(this.lingering);
    this.drop();
    this.client.off('error', nothing);
  }
}
