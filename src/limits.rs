//! Every maximum of the module, each with its reason. A setting that an operator can change has its default here too.

/// Longest owner name in bytes: room for a host name, a process and a request id, and still small in a queue of
/// thousands.
pub(crate) const OWNER_BYTES_MAX: usize = 256;

/// Longest note in bytes: a line that an operator can read.
pub(crate) const NOTE_BYTES_MAX: usize = 256;

/// Longest id of a re-entry or of a count-down, in bytes: room for a request id or a thread's name.
pub(crate) const ID_BYTES_MAX: usize = 64;

/// Most re-entries of one hold: deeper than calls nest, and few enough to put into one effect.
pub(crate) const ENTRIES_MAX: usize = 256;

/// Most re-entries of all holds of one lock together, for the same reason as with [`LATCH_IDS_MAX`].
pub(crate) const LOCK_ENTRIES_MAX: usize = 10_000;

/// Most locks that one request can take together. A step on any of them may have to look at all.
pub(crate) const KEYS_MAX: usize = 64;

/// Longest key name that a lock can be made under, in bytes. Queues and the lease index keep a copy of the name.
pub(crate) const KEY_BYTES_MAX: usize = 1024;

/// Longest name of a channel that is told of a turn, in bytes. Each ticket keeps a copy of the name.
pub(crate) const CHANNEL_BYTES_MAX: usize = 1024;

/// Most bytes of a client's text that an error quotes.
pub(crate) const QUOTE_BYTES_MAX: usize = 64;

/// Largest fence: what a client that keeps numbers as doubles can still tell apart, reached in the year 2255.
pub(crate) const FENCE_MAX: u64 = (1 << 53) - 1;

/// Digits of the largest fence. A register with more bytes holds none.
pub(crate) const FENCE_DIGITS_MAX: usize = 16;

/// Longest time that LOCK.FENCE can be asked to remember a fence, in seconds: ten years, far from any overflow.
pub(crate) const REMEMBER_S_MAX: i64 = 10 * 365 * 24 * 3600;

/// How far ahead of this server's clock a fence that a client brings may lie, in ms: a day, as clocks are wrong by a time
/// zone. Every later fence comes after it, so a client can push the sequence no further than this ahead of the clock.
pub(crate) const MAX_FENCE_AHEAD_MS: i64 = 24 * 3_600_000;

/// Furthest that the operator can allow, in ms: ten years, and fences last for two hundred.
pub(crate) const FENCE_AHEAD_MS_CEILING: i64 = 10 * 365 * 24 * 3_600_000;

/// Most permits of a semaphore.
pub(crate) const PERMITS_MAX: u32 = 1_000_000;

/// Largest count of a latch: more parties than one server has clients.
pub(crate) const LATCH_SIZE_MAX: u32 = 1_000_000;

/// Most ids that a latch gets: as many as a server takes clients by default. The server writes, dumps and deletes a value in
/// one go, which takes 2 ms with this many ids and would take 190 with a million. One with more, of an earlier version, is
/// still read.
pub(crate) const LATCH_IDS_MAX: usize = 10_000;

/// Longest life of a latch, in ms: ten years, far from any overflow.
pub(crate) const LATCH_LIFE_MS_MAX: i64 = 10 * 365 * 24 * 3_600_000;

/// Most ids that LATCH.INFO replies.
pub(crate) const LATCH_IDS_SHOWN_MAX: usize = 1_000;

/// Most holds of one lock; whoever comes then waits, as for a permit. Each step looks at all holds of its lock, and
/// letting this many in together, or ending them together, takes a few milliseconds.
pub(crate) const HOLDS_MAX: u32 = 1_000;

/// How many waiters one step lets in or sends away, over all of its locks, with the leases that it finds run out and the
/// locks that it comes upon; the others have their turn right after it, between the clients. Each takes some microseconds.
/// The tests of the core come upon it with few.
pub(crate) const SERVED_PER_STEP: usize = if cfg!(test) { 2 } else { 200 };

/// A look at so many holds takes as long as letting a waiter in.
pub(crate) const HOLDS_SEEN_AS_ONE: usize = 200;

/// Lease when ACQUIRE names none, in ms.
pub(crate) const DEFAULT_LEASE_MS: i64 = 30_000;

/// Longest lease that a client may ask for, in ms: a week. An owner that needs more renews, or says NOEXPIRE.
pub(crate) const MAX_LEASE_MS: i64 = 7 * 24 * 3_600_000;

/// Longest lease there is, in ms: seven weeks, as a lease is kept in 32 bits. NOEXPIRE is longer.
pub(crate) const LEASE_MS_MAX: u32 = 49 * 24 * 3_600_000;

/// Longest wait that the operator can allow, in ms: ten years, far from any overflow.
pub(crate) const WAIT_MS_CEILING: i64 = 10 * 365 * 24 * 3_600_000;

/// Longest wait that a client may ask for, in ms: a day. BLOCK 0 waits for ever.
pub(crate) const MAX_WAIT_MS: i64 = 24 * 3_600_000;

/// Most waiters in the server. Each costs about 35 KB in the server itself, so this many take 3.5 GB.
pub(crate) const MAX_WAITERS: i64 = 100_000;

/// How many of a hundred connections those who wait leave to the others, whatever `maxclients` is: room for holders that
/// come back to release, for administrators and for replicas.
pub(crate) const RESERVED_CLIENTS_PERCENT: i64 = 10;

/// Most waiters of one lock, and as many tickets.
pub(crate) const MAX_WAITERS_PER_KEY: i64 = 20_000;

/// How many keys one step looks at for those who only watch, and how many of them it tells; the others come right after
/// it, between the clients. Telling a client takes about a microsecond in the step, and some more when it is answered.
pub(crate) const OBSERVED_PER_STEP: usize = if cfg!(test) { 2 } else { 100 };

/// Most tickets in the server. With short names each costs some hundred bytes, so this many take less than 150 MB; with long
/// names and many keys [`MAX_MEMORY_BYTES`] comes first. One connection can make all of them, where a waiter needs one of
/// its own.
pub(crate) const MAX_TICKETS: i64 = 200_000;

/// Most bytes that waiters, tickets, those who watch and remembered losses take together: room for as many clients as may
/// wait with the server's own `maxclients`, 35 KB each, and as many tickets with ordinary names as there may be.
pub(crate) const MAX_MEMORY_BYTES: i64 = 512 << 20;

/// Most such bytes that the operator can allow: far above any server's memory.
pub(crate) const MEMORY_BYTES_CEILING: i64 = 1 << 40;

/// How long what a ticket was given may stay unclaimed, in ms: some round trips, and little for the next in line.
pub(crate) const CLAIM_MS: i64 = 1_000;

/// Longest time for a claim that the operator can allow, in ms: a day.
pub(crate) const CLAIM_MS_CEILING: i64 = 24 * 3_600_000;

/// Most waiters, and most tickets, that the operator can allow.
pub(crate) const WAITERS_CEILING: i64 = 10_000_000;

/// Lost holds that are remembered, so that a late RELEASE can be told what happened, and as many requests that named a hold
/// by its fence, so that a repeated one has the same reply: those of some seconds in which a server is busy. All together
/// take 4 MB at most.
pub(crate) const LOSS_LEDGER_SIZE: i64 = 16_384;

/// Most of each that the operator can ask to remember.
pub(crate) const LOSS_LEDGER_CEILING: i64 = 1_000_000;

/// The cooldown of a lock after an abnormal end, in ms: none, if the operator does not ask for it.
pub(crate) const LOCK_DELAY_MS: i64 = 0;

/// Longest such cooldown, in ms: an hour. It is there for owners that do not know yet, and they will not take longer.
pub(crate) const LOCK_DELAY_MS_CEILING: i64 = 3_600_000;

/// Rows that LOCK.WAITERS replies when no COUNT is given, and the most it replies at all.
pub(crate) const WAITERS_ROWS_DEFAULT: usize = 100;
/// See [`WAITERS_ROWS_DEFAULT`].
pub(crate) const WAITERS_ROWS_MAX: usize = 10_000;

/// The newest losses and deadlocks that LOCK.STATS shows, and the locks that were waited for most.
pub(crate) const NEWEST_SHOWN: usize = 10;

/// How many that come before in line WITHINFO counts: some microseconds of work.
pub(crate) const AHEAD_COUNTED_MAX: usize = 1_000;

/// Locks that LOCK.SCAN looks at when no COUNT is given, and the most that one call does. Each takes about a microsecond.
pub(crate) const SCAN_COUNT_DEFAULT: usize = 100;
/// See [`SCAN_COUNT_DEFAULT`].
pub(crate) const SCAN_COUNT_MAX: usize = 1_000;

/// Longest pattern of LOCK.SCAN, in bytes.
pub(crate) const SCAN_PATTERN_BYTES_MAX: usize = 256;

/// Bytes of patterns and names that one LOCK.SCAN compares: some hundred microseconds. A pattern of many stars can need as
/// many for one name as both have bytes.
pub(crate) const SCAN_STEPS_MAX: usize = 300_000;

/// Bytes after which a reply of LOCK.WAITERS ends, however many rows were asked for: some two milliseconds of work. There
/// is always one row, and `AFTER` goes on where it ended.
pub(crate) const WAITERS_BYTES_MAX: usize = 256 * 1024;

/// Most owners that one row of LOCK.WAITERS names as holders in the way, and as waiters before it.
pub(crate) const BLOCKERS_SHOWN_MAX: usize = 16;

/// The most that one search for a deadlock may cost, in steps of about 20 ns: it stays below a millisecond. An owner
/// that is met counts nearly a hundred with its wait and its lock, a place in a queue a few: so cycles of some 100
/// owners are found, or such as lie behind some thousand places; whatever is longer is let in.
pub(crate) const SEARCH_COST_MAX: usize = 10_000;

/// Most owners of a cycle that an error names.
pub(crate) const CYCLE_SHOWN_MAX: usize = 8;

/// Most owners that a line of the log names as those whose holds were ended.
pub(crate) const LOSERS_SHOWN_MAX: usize = 8;

/// How long one run over due work may take before it yields to the clients, in µs.
pub(crate) const RUN_BUDGET_US: u64 = 1_000;

/// Holds that came back after a failover and have ended, remembered until the recovery window closes: some megabytes.
pub(crate) const RECOVERY_MARKS_MAX: usize = 10_000;

/// Stands for as long as the longest lease that was seen lately.
pub(crate) const RECOVERY_WINDOW_AUTO: i64 = -1;

/// For how long nothing is granted after a failover, in ms: for as long as anybody may hold what was granted before.
pub(crate) const RECOVERY_WINDOW_MS: i64 = RECOVERY_WINDOW_AUTO;

/// How long such a window lasts at most, in ms: whoever works without locks for a minute has other troubles.
pub(crate) const RECOVERY_WINDOW_MAX_MS: i64 = 60_000;
