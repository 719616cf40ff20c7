package fencelock;

import java.lang.ref.WeakReference;
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
        grant.hold = new WeakReference<>(hold);
        grants.add(grant);
        watch(grant.look ? System.nanoTime() : grant.next());
        return hold;
    }

    boolean forget(Grant grant) {
        return grants.remove(grant);
    }

    void owe(Object[] request, long until) {
        debts.add(new Debt(request, until));
        watch(System.nanoTime());
    }

    /** Sees to it that the thread runs, and wakes at this time at the latest. */
    synchronized void watch(long time) {
        if (thread == null && !closed) {
            planned = System.nanoTime();
            thread = daemon("fencelock", this::keep);
            thread.start();
        } else if (thread != null && time - planned < 0) {
            planned = time;
            notifyAll();
        }
    }

    private static Thread daemon(String name, Runnable work) {
        Thread thread = new Thread(work, name);
        thread.setDaemon(true);
        return thread;
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
        long next = System.nanoTime() + (debts.isEmpty() ? LINGER : LINGER / 3);
        boolean sends = sender != null; // and looks for what is due when it is done
        for (Grant grant : grants) {
            next = earlier(next, sends ? grant.until : grant.next());
            if (grant.look && !sends && !deaf) {
                next = earlier(next, looks);
            }
        }
        return next;
    }

    private static long earlier(long one, long other) {
        return one - other < 0 ? one : other;
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
                planned = next();
            }
        }
    }

    private void turn() {
        long now = System.nanoTime();
        List<Grant> due = new ArrayList<>(), asked = new ArrayList<>();
        for (Grant grant : grants) {
            if (grant.abandoned()) { // the work that held it has died
                forget(grant);
                if (grant.options.renewed() && grants.stream().noneMatch(grant::isTwin)) {
                    debts.add(new Debt(grant.release(), grant.until));
                }
            } else if (grant.until - now <= 0) {
                lose(grant, "lease-over");
            } else {
                if (grant.options.renewed() && grant.due - now < grant.leaseMs * 1_000_000 / 12) {
                    due.add(grant); // who is due soon comes along
                    grant.look = grant.options.watched(); // what was told meanwhile may have been lost with a connection
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
        Thread batch = daemon("fencelock-sender", () -> {
            try {
                send(due, owed);
                look(asked);
            } catch (RuntimeException e) { // a fault here must not end the renewal of all other locks
                System.getLogger("fencelock").log(System.Logger.Level.ERROR, "a renewal failed", e);
            } finally {
                sender = null;
                watch(next());
            }
        });
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
        List<Object[]> checks = new ArrayList<>();
        asked.forEach(grant -> checks.addAll(grant.checks()));
        try {
            List<Object> replies = locks.transport.look(checks, this::changed);
            deaf = replies == null;
            if (deaf) {
                return;
            }
            int next = 1;
            for (Grant grant : asked) {
                for (int i = 0; i < grant.keys.size(); i++) {
                    String reason = Locks.reason(replies.get(next++));
                    if (reason != null && !reason.equals("recovering")) { // after a failover: a renewal brings it back
                        lose(grant, reason);
                    }
                }
            }
            for (Object reply : replies) {
                if (reply instanceof LockException e && (reply == replies.get(0) || e.passing())) {
                    throw e;
                }
            }
        } catch (LockException e) { // what is refused, by a full server for one, may be granted later
            deaf = e.code().equals("NOPERM") || e.getMessage().startsWith("ERR unknown"); // command
            asked.forEach(grant -> grant.look = true);
            looks = System.nanoTime() + (e.passing() ? 1 : 10) * ThreadLocalRandom.current().nextLong(20_000_000, 200_000_000);
        }
    }

    private void changed(List<byte[]> keys) {
        for (Grant grant : grants) {
            if (keys == null || grant.keys.stream().anyMatch(key -> keys.stream().anyMatch(one -> Arrays.equals(one, key)))) {
                grant.look = grant.options.watched();
            }
        }
        watch(System.nanoTime());
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
            grant.last(sent, left);
        } else if (grants.contains(grant)) { // and was not released meanwhile
            lose(grant, locks.why(grant));
        }
    }

    void lose(Grant grant, String reason) {
        Hold hold = grant.hold.get();
        if (forget(grant) && hold != null) {
            grant.reason = reason;
            daemon("fencelock-lost", () -> { // whose work must not keep the renewals waiting
                hold.lost.complete(reason);
                if (grant.options.onLost() != null) {
                    grant.options.onLost().accept(reason);
                }
            }).start();
        }
    }
}
