package fencelock.spring;

import fencelock.FencedLock;
import fencelock.LockLostException;
import fencelock.Locks;
import java.time.Duration;
import java.util.ConcurrentModificationException;
import java.util.Iterator;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.locks.Condition;
import org.springframework.integration.support.locks.DistributedLock;
import org.springframework.integration.support.locks.ExpirableLockRegistry;
import org.springframework.integration.support.locks.RenewableLockRegistry;
import org.springframework.scheduling.TaskScheduler;

/**
 * For Spring Integration: the locks of a registry, under keys {@code prefix:name}. Threads and programs stand in one line.
 * Without {@code expireAfter} a lock is renewed while it is held.
 */
public final class FencedLockRegistry
        implements ExpirableLockRegistry<DistributedLock>, RenewableLockRegistry<DistributedLock> {
    private final Locks locks;
    private final String prefix;
    private final Duration expireAfter;
    private final Map<Object, Entry> entries = new LinkedHashMap<>(16, 0.75f, true);
    private volatile boolean renewed;
    private int capacity = 100_000;

    public FencedLockRegistry(Locks locks, String prefix) {
        this(locks, prefix, Duration.ofSeconds(30));
        renewed = true;
    }

    /** Locks end after this time, if they are not renewed by {@link #renewLock}. */
    public FencedLockRegistry(Locks locks, String prefix, Duration expireAfter) {
        this.locks = locks;
        this.prefix = prefix;
        this.expireAfter = expireAfter;
    }

    /** How many lock objects are kept for those who ask for them again; the ones not used for the longest time go first. */
    public synchronized void setCacheCapacity(int capacity) {
        this.capacity = capacity;
    }

    /** From now on locks are renewed while they are held; the scheduler is not needed for it. */
    @Override
    public void setRenewalTaskScheduler(TaskScheduler scheduler) {
        renewed = true;
    }

    @Override
    public synchronized DistributedLock obtain(Object key) {
        Entry entry = entries.computeIfAbsent(key, Entry::new);
        entry.used = System.currentTimeMillis();
        Iterator<Entry> all = entries.values().iterator();
        while (entries.size() > capacity && all.hasNext()) {
            Entry old = all.next();
            if (old != entry && !old.lock.isEntered()) {
                all.remove();
            }
        }
        return entry;
    }

    @Override
    public synchronized void expireUnusedOlderThan(long age) {
        long before = System.currentTimeMillis() - age;
        entries.values().removeIf(entry -> entry.used < before && !entry.lock.isEntered());
    }

    @Override
    public void renewLock(Object key) {
        renewLock(key, expireAfter);
    }

    @Override
    public void renewLock(Object key, Duration ttl) {
        Entry entry;
        synchronized (this) {
            entry = entries.get(key);
        }
        if (entry == null || entry.lock.getHoldCount() == 0) {
            throw new IllegalStateException("You do not own lock at " + prefix + ":" + key);
        }
        entry.lock.hold().renew(ttl);
    }

    @Override
    public synchronized String toString() {
        return "FencedLockRegistry " + prefix + " keeps " + entries.size() + " locks: " + entries.keySet();
    }

    private final class Entry implements DistributedLock {
        private final String name;
        private final FencedLock lock;
        private volatile long used;

        private Entry(Object key) {
            name = prefix + ":" + key;
            lock = locks.lock(name);
        }

        private FencedLock usual() {
            return renewed ? lock.withRenewedLease(expireAfter) : lock.withLease(expireAfter);
        }

        @Override
        public void lock() {
            usual().lock();
        }

        @Override
        public void lock(Duration ttl) {
            lock.withLease(ttl).lock();
        }

        @Override
        public void lockInterruptibly() throws InterruptedException {
            usual().lockInterruptibly();
        }

        @Override
        public boolean tryLock() {
            try {
                return usual().tryLock();
            } catch (LockLostException e) { // entered again, after it was lost
                return false;
            }
        }

        @Override
        public boolean tryLock(long time, TimeUnit unit) throws InterruptedException {
            return tryLock(usual(), unit.toNanos(time));
        }

        @Override
        public boolean tryLock(Duration wait, Duration ttl) throws InterruptedException {
            return tryLock(lock.withLease(ttl), wait.toNanos());
        }

        private boolean tryLock(FencedLock lock, long nanos) throws InterruptedException {
            try {
                return lock.tryLock(nanos, TimeUnit.NANOSECONDS);
            } catch (LockLostException e) {
                return false;
            }
        }

        @Override
        public void unlock() {
            try {
                lock.unlock();
            } catch (LockLostException e) {
                ConcurrentModificationException lost = new ConcurrentModificationException(
                        "Lock was released in the store due to expiration. The integrity of data protected by this lock may "
                                + "have been compromised: " + name + " " + e.reason());
                lost.initCause(e);
                throw lost;
            } catch (IllegalMonitorStateException e) {
                throw new IllegalStateException("You do not own lock at " + name, e);
            }
        }

        @Override
        public Condition newCondition() {
            return lock.newCondition();
        }

        @Override
        public String toString() {
            return "FencedLock " + name;
        }
    }
}
