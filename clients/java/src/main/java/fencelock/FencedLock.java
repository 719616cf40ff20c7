package fencelock;

import java.lang.ref.WeakReference;
import java.time.Duration;
import java.util.ArrayDeque;
import java.util.Collections;
import java.util.Deque;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.WeakHashMap;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.locks.Condition;
import java.util.concurrent.locks.Lock;
import java.util.function.Consumer;

/**
 * A lock on the server: first come, first served, with a fence, renewed while it is held, and with word at once when it is
 * lost. Threads use it as a {@link java.util.concurrent.locks.ReentrantLock}; each is a holder of its own. Work that moves
 * between threads takes a {@link Hold} by {@link #acquire}.
 *
 * <p>Without a lease of its own it is held for 30 seconds at a time, and renewed. The methods {@code with…} and
 * {@code onLost} give the same lock with other options.
 */
public final class FencedLock implements Lock {

    /** What one thread has: the hold, and for each time that it entered the mode and the id. */
    private static final class Entered {
        private final Hold hold;
        private final Deque<Entry> entries = new ArrayDeque<>();
        private int ids;

        private Entered(Hold hold) {
            this.hold = hold;
        }

        private boolean reads() {
            return entries.stream().allMatch(Entry::shared);
        }
    }

    private record Entry(boolean shared, String id) {
    }

    private final Locks locks;
    private final List<byte[]> keys;
    private final Options options;
    private final Map<Thread, Entered> threads; // weak: those that died without leaving are forgotten

    FencedLock(Locks locks, List<byte[]> keys, Options options) {
        this(locks, keys, options, Collections.synchronizedMap(new WeakHashMap<>()));
    }

    private FencedLock(Locks locks, List<byte[]> keys, Options options, Map<Thread, Entered> threads) {
        this.locks = locks;
        this.keys = keys;
        this.options = options;
        this.threads = threads;
    }

    FencedLock with(Options options) {
        return new FencedLock(locks, keys, options, threads);
    }

    /** The same lock for a fixed time, without renewal. */
    public FencedLock withLease(Duration lease) {
        return with(options.lease(lease.toMillis(), false));
    }

    /** The same lock with this lease, renewed at a third of it. */
    public FencedLock withRenewedLease(Duration lease) {
        return with(options.lease(lease.toMillis(), true));
    }

    /**
     * The same lock under this owner. The same name for all locks of one piece of work lets the server find deadlocks
     * between them; without it each hold has an owner of its own.
     */
    public FencedLock withOwner(String owner) {
        return with(options.owner(owner));
    }

    /** The same lock; its holds call this with the reason when they are lost, in a thread of its own. */
    public FencedLock onLost(Consumer<String> told) {
        return with(options.onLost(told));
    }

    /** The same lock, which ends after this time, however often it is renewed. */
    public FencedLock withMaxHold(Duration time) {
        return with(options.most(time.toMillis()));
    }

    /**
     * The same lock; of a loss its holds are told at once, and not by the next renewal. It takes one more connection for all that
     * watch, and a request for each hold, renewal and change. It is for one server: elsewhere, and where the user may not
     * listen, the renewals tell.
     */
    public FencedLock watched() {
        return with(options.watch());
    }

    /** Waits in line, and gives a hold that belongs to no thread. */
    public Hold acquire() throws InterruptedException {
        return new Acquire(locks, keys, options, Acquire.FOREVER, true).run();
    }

    /** The same, for so long at most. */
    public Optional<Hold> tryAcquire(Duration wait) throws InterruptedException {
        return Optional.ofNullable(new Acquire(locks, keys, options, wait.toNanos(), true).run());
    }

    @Override
    public void lock() {
        enterAnyway(Acquire.FOREVER);
    }

    @Override
    public void lockInterruptibly() throws InterruptedException {
        enter(Acquire.FOREVER, true);
    }

    @Override
    public boolean tryLock() {
        return enterAnyway(0);
    }

    @Override
    public boolean tryLock(long time, TimeUnit unit) throws InterruptedException {
        return enter(unit.toNanos(time), true);
    }

    /** Leaves the lock. Throws {@link LockLostException} if it was lost, once, when the thread leaves it altogether. */
    @Override
    public void unlock() {
        Entered entered = entered();
        Entry entry = null;
        for (Entry one : entered.entries) { // of which the last comes first
            entry = entry == null && one.shared == options.shared() ? one : entry;
        }
        if (entry == null) {
            throw notOwned();
        }
        entered.entries.remove(entry);
        Grant grant = entered.hold.grant;
        if (entered.entries.isEmpty()) {
            threads.remove(Thread.currentThread());
            entered.hold.release();
        } else if (keys.size() == 1) {
            Object[] words = grant.words("LOCK.RELEASE", "FENCE", grant.fence);
            locks.askHeld(entry.id.isEmpty() ? words : Grant.append(words, "REENTRANT", entry.id));
            if (!entry.shared && entered.reads()) { // a writer who goes on reading
                locks.askHeld(grant.words("LOCK.CONVERT", "SHARED", "FENCE", grant.fence));
                grant.mode = new Object[] {"SHARED"};
            }
        }
    }

    /** Not to be had: a condition needs a queue of its own on the server. */
    @Override
    public Condition newCondition() {
        throw new UnsupportedOperationException("a fenced lock has no conditions");
    }

    /** The fence of this thread's hold: a number that only grows. Send it along with every write. */
    public long fence() {
        return entered().hold.fence();
    }

    /** This thread's hold. Hand it, and not the lock, to threads that help. */
    public Hold hold() {
        return entered().hold;
    }

    /** How often this thread has entered the lock and not left it. */
    public int getHoldCount() {
        Entered entered = threads.get(Thread.currentThread());
        return entered == null ? 0 : (int) entered.entries.stream().filter(e -> e.shared == options.shared()).count();
    }

    /** Whether this thread has it, as far as can be told without asking: not when it was lost, or the lease may be over. */
    public boolean isHeldByCurrentThread() {
        return getHoldCount() > 0 && entered().hold.isHeld();
    }

    /** Whether any thread of this program has entered it through this object. */
    public boolean isEntered() {
        return !threads.isEmpty();
    }

    private IllegalMonitorStateException notOwned() {
        return new IllegalMonitorStateException("You do not own lock at " + Locks.text(keys.get(0)));
    }

    private Entered entered() {
        Entered entered = threads.get(Thread.currentThread());
        if (entered == null) {
            throw notOwned();
        }
        return entered;
    }

    private boolean enterAnyway(long waitNanos) {
        try {
            return enter(waitNanos, false);
        } catch (InterruptedException e) {
            throw new AssertionError(e); // interrupts are kept for later
        }
    }

    private boolean enter(long waitNanos, boolean interruptible) throws InterruptedException {
        if (interruptible && Thread.interrupted()) {
            throw new InterruptedException();
        }
        Entered entered = threads.get(Thread.currentThread());
        if (entered != null) {
            reenter(entered);
            return true;
        }
        Hold hold = new Acquire(locks, keys, options, waitNanos, interruptible).run();
        if (hold == null) {
            return false;
        }
        hold.grant.thread = new WeakReference<>(Thread.currentThread());
        entered = new Entered(hold);
        entered.entries.push(new Entry(options.shared(), ""));
        threads.put(Thread.currentThread(), entered);
        return true;
    }

    /** Confirms the hold under one more id. It was lost if the server does not have it under this fence. */
    private void reenter(Entered entered) {
        if (!options.shared() && entered.reads()) {
            throw new IllegalMonitorStateException("a reader cannot become a writer; leave the lock first");
        }
        Grant grant = entered.hold.grant;
        grant.refuseLost();
        long sent = System.nanoTime();
        String id = Integer.toString(++entered.ids);
        Object[] words = Grant.append(grant.words("LOCK.ACQUIRE", "PX", grant.leaseMs, "FENCE", grant.fence), grant.mode);
        words = keys.size() > 1 ? words : Grant.append(words, "REENTRANT", id);
        if (Locks.least(locks.askHeld(words)) == 0) {
            throw new LockLostException(grant.name(), locks.why(grant));
        }
        grant.last(sent, Math.max(grant.leaseMs, (grant.until - sent) / 1_000_000));
        entered.entries.push(new Entry(options.shared(), id));
    }
}
