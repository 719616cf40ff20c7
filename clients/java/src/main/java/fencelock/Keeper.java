package fencelock;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.ThreadLocalRandom;

/**
 * Renews the holds that are due, all in one go, tells of those that are lost, and gives back those that nobody has any
 * more. Its thread runs only while there is something to keep. What goes to the server goes in a thread of its own, so that a
 * server that does not answer keeps no word of another loss waiting.
 */
final class Keeper {
    private static final long LINGER = 1_000_000_000; // nanoseconds without a hold, after which the thread ends
    private static final long REPLY_MS = 5000;

    /** A request that must still go out, and until when. */
    private record Debt(Object[] request, long until) {
    }

    private final Locks locks;
    private final Set<Grant> grants = ConcurrentHashMap.newKeySet();
    private final ConcurrentLinkedQueue<Debt> debts = new ConcurrentLinkedQueue<>();
    private Thread thread;
    private volatile Thread sender; // while a batch is under way
    private boolean closed;
    private long planned; // when it wakes by itself
    private volatile long looks = System.nanoTime(); // when those that are watched may be asked about
    private volatile boolean deaf; // nobody can tell of changes

    Keeper(Locks locks) {
        this.locks = locks;
    }

    Hold add(Grant grant) {
        Hold hold = new Hold(locks, grant);
        grant.hold = new java.lang.ref.WeakReference<>(hold);
        grants.add(grant);
        watch(grant.look ? 0 : Math.min(grant.due - System.nanoTime(), grant.until - System.nanoTime()));
        return hold;
    }

    boolean forget(Grant grant) {
        return grants.remove(grant);
    }

    void owe(Object[] request, long until) {
        debts.add(new Debt(request, until));
        watch(0);
    }

    /** Sees to it that the thread runs, and wakes in so many nanoseconds at the latest. */
    synchronized void watch(long left) {
        if (thread == null && !closed) {
            thread = new Thread(this::keep, "fencelock");
            thread.setDaemon(true);
            planned = System.nanoTime();
            thread.start();
        } else if (thread != null && System.nanoTime() + left - planned < 0) {
            planned = System.nanoTime() + left;
            notifyAll();
        }
    }

    /** Gives back all that is held, and waits until the thread has ended. */
    void close() {
        for (Grant grant : grants) {
            if (forget(grant)) {
                grant.released = true;
                debts.add(new Debt(grant.release(), grant.until));
            }
        }
        Thread running;
        synchronized (this) {
            running = thread;
            thread = null;
            closed = true;
            notifyAll();
        }
        boolean interrupted = join(running) | join(sender);
        send(List.of(), owed(System.nanoTime())); // once: what no server hears of ends with its lease
        debts.clear();
        if (interrupted) {
            Thread.currentThread().interrupt();
        }
    }

    /** Waits until it has ended; tells whether there was an interrupt meanwhile. */
    private static boolean join(Thread thread) {
        boolean interrupted = false;
        while (thread != null && thread.isAlive()) {
            try {
                thread.join(2 * REPLY_MS);
                break;
            } catch (InterruptedException e) {
                interrupted = true;
            }
        }
        return interrupted;
    }

    private long next() {
        long now = System.nanoTime();
        long left = debts.isEmpty() ? LINGER : LINGER / 3;
        boolean sends = sender != null; // and looks for what is due when it is done
        for (Grant grant : grants) {
            left = Math.min(left, (sends ? grant.until : Math.min(grant.due, grant.until)) - now);
            if (grant.look && !sends && !deaf) {
                left = Math.min(left, looks - now);
            }
        }
        return left;
    }

    private void keep() {
        long idle = System.nanoTime();
        while (true) {
            synchronized (this) {
                for (long left; (left = planned - System.nanoTime()) > 0 && thread == Thread.currentThread();) {
                    try {
                        wait(left / 1_000_000 + 1);
                    } catch (InterruptedException e) {
                        // nobody interrupts this thread but by mistake
                    }
                }
                if (!grants.isEmpty() || !debts.isEmpty()) {
                    idle = System.nanoTime();
                } else if (System.nanoTime() - idle > LINGER && thread == Thread.currentThread()) {
                    thread = null;
                }
                if (thread != Thread.currentThread()) {
                    return;
                }
            }
            turn();
            synchronized (this) {
                planned = System.nanoTime() + next();
            }
        }
    }

    private void turn() {
        long now = System.nanoTime();
        List<Grant> due = new ArrayList<>(), asked = new ArrayList<>();
        for (Grant grant : grants) {
            if (grant.abandoned()) { // the work that held it has died
                forget(grant);
                if (grant.renewed) {
                    debts.add(new Debt(grant.release(), grant.until));
                }
            } else if (grant.until - now <= 0) {
                lose(grant, "lease-over");
            } else {
                if (grant.renewed && grant.due - now < grant.leaseMs * 1_000_000 / 12) {
                    due.add(grant); // who is due soon comes along
                    grant.look = grant.watched; // what was told meanwhile may have been lost with a connection
                }
                if (grant.look && !deaf && looks - now <= 0) {
                    asked.add(grant);
                }
            }
        }
        if (sender != null || due.isEmpty() && debts.isEmpty() && asked.isEmpty()) {
            return;
        }
        List<Debt> owed = owed(now);
        Thread batch = new Thread(() -> {
            try {
                send(due, owed);
                look(asked);
            } catch (RuntimeException e) { // a fault here must not end the renewal of all other locks
                System.getLogger("fencelock").log(System.Logger.Level.ERROR, "a renewal failed", e);
            } finally {
                sender = null;
                watch(next());
            }
        }, "fencelock-sender");
        batch.setDaemon(true);
        sender = batch;
        batch.start();
    }

    private List<Debt> owed(long now) {
        List<Debt> owed = new ArrayList<>();
        for (Debt debt; (debt = debts.poll()) != null;) {
            if (debt.until - now > 0) {
                owed.add(debt);
            }
        }
        return owed;
    }

    private void send(List<Grant> due, List<Debt> owed) {
        long now = System.nanoTime();
        long limit = REPLY_MS;
        List<Object[]> requests = new ArrayList<>();
        for (Grant grant : due) {
            requests.add(grant.renewal(grant.leaseMs));
            limit = Math.min(limit, Math.max(50, (grant.until - now) / 1_000_000));
        }
        owed.forEach(debt -> requests.add(debt.request));
        List<Object> replies = locks.transport.sendAll(requests, limit);
        for (int i = 0; i < due.size(); i++) {
            renewed(due.get(i), replies.get(i), now);
        }
        for (int i = 0; i < owed.size(); i++) {
            if (replies.get(due.size() + i) instanceof LockException e && e.passing()) {
                debts.add(owed.get(i));
            }
        }
    }

    /** Asks about those that may have ended, all in one go. Of what is not heard so the next renewal tells. */
    private void look(List<Grant> asked) {
        if (asked.isEmpty()) {
            return;
        }
        asked.forEach(grant -> grant.look = false);
        List<Object[]> checks = asked.stream().flatMap(grant -> grant.checks().stream()).toList();
        try {
            List<Object> replies = locks.transport.look(checks, this::changed);
            deaf = replies == null;
            int next = 0;
            for (Grant grant : asked) {
                for (int i = 0; i < grant.keys.size() && !deaf; i++) {
                    seen(grant, Locks.reason(replies.get(next++)));
                }
            }
        } catch (LockException e) {
            deaf = !e.passing();
            asked.forEach(grant -> grant.look = true);
            looks = System.nanoTime() + ThreadLocalRandom.current().nextLong(20_000_000, 200_000_000);
        }
    }

    private void changed(List<byte[]> keys) {
        for (Grant grant : grants) {
            if (keys == null || grant.keys.stream().anyMatch(key -> keys.stream().anyMatch(one -> Arrays.equals(one, key)))) {
                grant.look = grant.watched;
            }
        }
        watch(0);
    }

    private void seen(Grant grant, String reason) {
        if (reason != null && !reason.equals("recovering")) { // after a failover: a renewal brings it back
            lose(grant, reason);
        }
    }

    private void renewed(Grant grant, Object reply, long sent) {
        if (reply instanceof LockException e && (e.code().equals("NOPERM") || e.code().equals("BADARG"))) {
            lose(grant, e.code()); // asking again would not help
            return;
        }
        if (reply instanceof LockException e && !e.code().equals("WRONGTYPE")) {
            // no reply, or an error: again soon, as long as the lease lasts
            double ms = Math.min(1000, grant.leaseMs / 12.0) * ThreadLocalRandom.current().nextDouble(0.5, 1.0);
            grant.due = System.nanoTime() + (long) (ms * 1e6) + grant.leaseMs * 1_000_000 / 12;
            return;
        }
        long left = reply instanceof LockException ? 0 : Locks.least(reply);
        if (left > 0) {
            grant.until = sent + left * 1_000_000;
            grant.plan();
        } else if (grants.contains(grant)) { // and was not released meanwhile
            lose(grant, locks.why(grant));
        }
    }

    void lose(Grant grant, String reason) {
        Hold hold = grant.hold.get();
        if (forget(grant) && hold != null) {
            grant.reason = reason;
            Thread teller = new Thread(() -> {
                hold.lost.complete(reason);
                if (grant.onLost != null) {
                    grant.onLost.accept(reason);
                }
            }, "fencelock-lost"); // whose work must not keep the renewals waiting
            teller.setDaemon(true);
            teller.start();
        }
    }
}
