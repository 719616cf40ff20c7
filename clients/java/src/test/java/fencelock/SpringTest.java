package fencelock;

import static org.junit.jupiter.api.Assertions.assertDoesNotThrow;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertNotSame;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import fencelock.spring.FencedLockRegistry;
import java.time.Duration;
import java.util.ConcurrentModificationException;
import java.util.List;
import java.util.concurrent.Callable;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.locks.Lock;
import java.util.stream.IntStream;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.springframework.integration.support.locks.DistributedLock;

/**
 * The cases of Spring Integration's RedisLockRegistryTests, written anew under their names. Not played: those of its own
 * parts, namely the executor that deletes keys ({@code setExecutor}), and the refusal to lock an object that fell out of the
 * cache, which is not needed here, since two objects for one key exclude each other.
 */
class SpringTest {
    private Server server;
    private Client client;
    private FencedLockRegistry registry;
    private final ExecutorService pool = Executors.newCachedThreadPool();

    @BeforeEach
    void begin() throws Exception {
        server = Server.empty();
        client = Client.of("jedis", server.port, 30, 5);
        registry = registry();
    }

    @AfterEach
    void end() {
        pool.shutdownNow();
        client.close();
    }

    private FencedLockRegistry registry() {
        return new FencedLockRegistry(client.locks, "registry");
    }

    private FencedLockRegistry registry(long expireAfterMs) {
        return new FencedLockRegistry(client.locks, "registry", Duration.ofMillis(expireAfterMs));
    }

    private <T> T elsewhere(Callable<T> work) throws Exception {
        return pool.submit(work).get(10, TimeUnit.SECONDS);
    }

    private static void assertNothingIsKept(FencedLockRegistry registry) {
        registry.expireUnusedOlderThan(-1000);
        assertTrue(registry.toString().contains("keeps 0"), registry::toString);
    }

    private static void assertKept(int n, FencedLockRegistry registry) {
        assertTrue(registry.toString().contains("keeps " + n + " "), registry::toString);
    }

    @Test
    void testLock() {
        for (int i = 0; i < 10; i++) {
            Lock lock = registry.obtain("foo");
            lock.lock();
            assertKept(1, registry);
            lock.unlock();
        }
        assertNothingIsKept(registry);
    }

    @Test
    void testLockWithCustomTtl() {
        FencedLockRegistry registry = registry(100);
        for (int i = 0; i < 3; i++) {
            DistributedLock lock = registry.obtain("foo");
            lock.lock(Duration.ofSeconds(9));
            Server.pause(0.2);
            assertDoesNotThrow(lock::unlock);
        }
        assertNothingIsKept(registry);
    }

    @Test
    void testTryLockWithCustomTtl() throws Exception {
        FencedLockRegistry registry = registry(100);
        for (int i = 0; i < 3; i++) {
            DistributedLock lock = registry.obtain("foo");
            assertTrue(lock.tryLock(Duration.ofMillis(100), Duration.ofSeconds(9)));
            Server.pause(0.2);
            assertDoesNotThrow(lock::unlock);
        }
    }

    @Test
    void testUnlockAfterLockStatusHasBeenExpired() {
        Lock lock = registry(100).obtain("foo");
        lock.lock();
        Server.pause(0.2);
        assertThrows(ConcurrentModificationException.class, lock::unlock);
    }

    @Test
    void testLockInterruptibly() throws Exception {
        for (int i = 0; i < 10; i++) {
            Lock lock = registry.obtain("foo");
            lock.lockInterruptibly();
            assertKept(1, registry);
            lock.unlock();
        }
        assertNothingIsKept(registry);
    }

    @Test
    void testReentrantLock() throws Exception {
        for (int i = 0; i < 10; i++) {
            Lock lock1 = registry.obtain("foo");
            lock1.lock();
            Lock lock2 = registry.obtain("foo");
            assertSame(lock1, lock2);
            lock2.lockInterruptibly();
            lock2.unlock();
            lock1.unlock();
        }
        assertNothingIsKept(registry);
    }

    @Test
    void testTwoLocks() throws Exception {
        for (int i = 0; i < 10; i++) {
            Lock lock1 = registry.obtain("foo");
            lock1.lockInterruptibly();
            Lock lock2 = registry.obtain("bar");
            assertNotSame(lock1, lock2);
            lock2.lockInterruptibly();
            lock2.unlock();
            lock1.unlock();
        }
        assertNothingIsKept(registry);
    }

    @Test
    void testTwoThreadsSecondFailsToGetLock() throws Exception {
        Lock lock1 = registry.obtain("foo");
        lock1.lockInterruptibly();
        IllegalStateException e = elsewhere(() -> {
            Lock lock2 = registry.obtain("foo");
            assertFalse(lock2.tryLock(200, TimeUnit.MILLISECONDS));
            return assertThrows(IllegalStateException.class, lock2::unlock);
        });
        assertTrue(e.getMessage().contains("You do not own lock at"));
        lock1.unlock();
        assertNothingIsKept(registry);
    }

    @Test
    void testTwoThreads() throws Exception {
        oneAfterTheOther(registry, registry);
    }

    @Test
    void testTwoThreadsDifferentRegistries() throws Exception {
        oneAfterTheOther(registry, registry());
    }

    private void oneAfterTheOther(FencedLockRegistry registry1, FencedLockRegistry registry2) throws Exception {
        Lock lock1 = registry1.obtain("foo");
        lock1.lockInterruptibly();
        Future<?> second = pool.submit(() -> {
            Lock lock2 = registry2.obtain("foo");
            lock2.lock();
            assertKept(1, registry2);
            lock2.unlock();
        });
        Server.until("it waits", 5, () -> server.waiting("registry:foo") == 1);
        assertFalse(second.isDone());
        lock1.unlock();
        second.get(5, TimeUnit.SECONDS);
        assertNothingIsKept(registry1);
        assertNothingIsKept(registry2);
    }

    @Test
    void testTwoThreadsWrongOneUnlocks() throws Exception {
        Lock lock = registry.obtain("foo");
        lock.lockInterruptibly();
        IllegalStateException e = elsewhere(() -> assertThrows(IllegalStateException.class, lock::unlock));
        assertTrue(e.getMessage().contains("You do not own lock at"));
        lock.unlock();
        assertNothingIsKept(registry);
    }

    @Test
    void testExpireTwoRegistries() {
        Lock lock1 = registry(1500).obtain("foo"), lock2 = registry(9000).obtain("foo");
        assertTrue(lock1.tryLock());
        assertFalse(lock2.tryLock());
        Server.until("it has expired", 9, () -> server.holders("registry:foo") == 0);
        assertTrue(lock2.tryLock());
        assertFalse(lock1.tryLock());
    }

    @Test
    void testExceptionOnExpire() {
        Lock lock1 = registry(1).obtain("foo");
        assertTrue(lock1.tryLock());
        Server.until("it has expired", 9, () -> server.holders("registry:foo") == 0);
        assertTrue(assertThrows(ConcurrentModificationException.class, lock1::unlock).getMessage()
                .contains("Lock was released in the store due to expiration."));
    }

    @Test
    void testRenewalOnExpire() {
        FencedLockRegistry registry = registry(3000);
        registry.setRenewalTaskScheduler(null); // it has its own
        Lock lock1 = registry.obtain("foo");
        assertTrue(lock1.tryLock());
        Server.pause(3.5);
        lock1.unlock();
    }

    @Test
    void testEquals() {
        Lock lock1 = registry.obtain("foo"), lock2 = registry.obtain("foo");
        assertEquals(lock1, lock2);
        lock1.lock();
        lock2.lock();
        assertEquals(lock1, lock2);
        lock1.unlock();
        lock2.unlock();
        Lock other = registry().obtain("foo");
        assertNotEquals(lock1, other);
        lock1.lock();
        assertFalse(other.tryLock());
        lock1.unlock();
        Lock third = new FencedLockRegistry(client.locks, "registry2").obtain("foo");
        assertNotEquals(lock1, third);
        lock1.lock();
        third.lock();
        lock1.unlock();
        third.unlock();
    }

    @Test
    void testThreadLocalListLeaks() {
        for (int i = 0; i < 10; i++) {
            registry.obtain("foo" + i);
        }
        assertKept(10, registry);
        IntStream.range(0, 10).forEach(i -> registry.obtain("foo" + i).lock());
        assertKept(10, registry);
        IntStream.range(0, 10).forEach(i -> registry.obtain("foo" + i).unlock());
        assertKept(10, registry);
    }

    @Test
    void testExpireNotChanged() throws Exception {
        DistributedLock lock = registry(10_000).obtain("foo");
        lock.lock();
        Server.pause(0.05);
        assertEquals(false, elsewhere(() -> registry(60_000).obtain("foo").tryLock()));
        assertTrue((Long) server.cmd("PTTL", "registry:foo") < 10_000);
        lock.unlock();
    }

    @Test
    void concurrentObtainCapacityTest() throws Exception {
        registry.setCacheCapacity(179);
        ExecutorService four = Executors.newFixedThreadPool(4);
        List<Callable<Boolean>> all = IntStream.range(0, 500).<Callable<Boolean>>mapToObj(i -> () -> {
            Lock lock = registry.obtain("foo:" + i);
            lock.lock();
            lock.unlock();
            return true;
        }).toList();
        for (Future<Boolean> one : four.invokeAll(all)) {
            assertTrue(one.get());
        }
        four.shutdown();
        assertKept(179, registry);
        assertNothingIsKept(registry);
    }

    @Test
    void concurrentObtainRemoveOrderTest() {
        registry.setCacheCapacity(2);
        IntStream.range(0, 5).forEach(i -> registry.obtain("foo:" + i));
        assertTrue(registry.toString().contains("[foo:3, foo:4]"), registry::toString);
    }

    @Test
    void concurrentObtainAccessRemoveOrderTest() {
        registry.setCacheCapacity(3);
        List.of("foo:0", "foo:1", "foo:2", "foo:1", "foo:3", "foo:4").forEach(registry::obtain);
        assertTrue(registry.toString().contains("[foo:1, foo:3, foo:4]"), registry::toString);
    }

    @Test
    void setCapacityTest() {
        registry.setCacheCapacity(4);
        List.of("foo:1", "foo:2", "foo:3").forEach(registry::obtain);
        registry.setCacheCapacity(3);
        registry.obtain("foo:4");
        assertTrue(registry.toString().contains("[foo:2, foo:3, foo:4]"), registry::toString);
        registry.setCacheCapacity(4);
        registry.obtain("foo:5");
        assertTrue(registry.toString().contains("[foo:2, foo:3, foo:4, foo:5]"), registry::toString);
    }

    @Test
    void twoRedisLockRegistryTest() throws Exception {
        Lock lock1 = registry(1_000_000).obtain("test-1"), lock2 = registry(1_000_000).obtain("test-1");
        CountDownLatch locked = new CountDownLatch(1);
        Future<?> first = pool.submit(() -> {
            lock1.lock();
            locked.countDown();
            lock1.unlock();
        });
        locked.await();
        lock2.lock();
        lock2.unlock();
        first.get(5, TimeUnit.SECONDS);
    }

    @Test
    void multiRedisLockRegistryTest() throws Exception {
        AtomicInteger count = new AtomicInteger();
        List<Callable<Integer>> all = IntStream.range(0, 10).<Callable<Integer>>mapToObj(i -> {
            FencedLockRegistry one = registry(100_000);
            return () -> {
                Lock lock = one.obtain("testKey");
                lock.lock();
                lock.unlock();
                return count.incrementAndGet();
            };
        }).toList();
        for (int round = 0; round < 3; round++) {
            for (Future<Integer> one : pool.invokeAll(all)) {
                one.get();
            }
        }
        assertEquals(30, count.get());
    }

    @Test
    void earlyWakeUpTest() throws Exception {
        Lock lock1 = registry.obtain("testKey");
        AtomicInteger got = new AtomicInteger();
        lock1.lock();
        for (int i = 0; i < 2; i++) {
            Lock other = registry().obtain("testKey");
            pool.submit(() -> other.tryLock(10, TimeUnit.SECONDS) ? got.incrementAndGet() : 0);
        }
        Server.until("both wait", 5, () -> server.waiting("registry:testKey") == 2);
        lock1.unlock();
        Server.until("one has it", 5, () -> got.get() == 1);
        Server.pause(0.5);
        assertEquals(1, got.get());
    }

    @Test
    void testTwoThreadsRemoveAndObtainSameLockSimultaneously() throws Exception {
        for (int i = 0; i < 50; i++) {
            String key = "testKey" + i;
            Callable<Lock> one = () -> {
                registry.expireUnusedOlderThan(10_000);
                Lock lock = registry.obtain(key);
                if (lock.tryLock(2, TimeUnit.SECONDS)) {
                    lock.unlock();
                }
                return lock;
            };
            List<Future<Lock>> both = pool.invokeAll(List.of(one, one));
            assertSame(both.get(0).get(), both.get(1).get());
        }
    }

    @Test
    void testLockRenew() {
        Lock lock = registry.obtain("foo");
        assertTrue(lock.tryLock());
        registry.renewLock("foo");
        lock.unlock();
    }

    @Test
    void testLockRenewLockNotOwned() {
        registry.obtain("foo");
        assertThrows(IllegalStateException.class, () -> registry.renewLock("foo"));
    }

    @Test
    void testLockRenewWithCustomTtl() throws Exception {
        DistributedLock lock = registry.obtain("foo");
        assertTrue(lock.tryLock(Duration.ofMillis(100), Duration.ofSeconds(2)));
        registry.renewLock("foo", Duration.ofSeconds(9));
        Server.pause(2.1);
        assertFalse(registry().obtain("foo").tryLock(100, TimeUnit.MILLISECONDS));
        lock.unlock();
    }

    @Test
    void notUsedLockIsEvictedOnCacheLimit() throws Exception {
        registry.setCacheCapacity(2);
        CountDownLatch locked = new CountDownLatch(1), enough = new CountDownLatch(1);
        Future<?> holder = pool.submit(() -> {
            Lock lock = registry.obtain("lock1");
            lock.lock();
            locked.countDown();
            enough.await();
            lock.unlock();
            return null;
        });
        locked.await();
        registry.obtain("lock2");
        registry.obtain("lock3");
        assertTrue(registry.toString().contains("[lock1, lock3]"), registry::toString);
        Lock lock1 = registry.obtain("lock1");
        assertFalse(lock1.tryLock(300, TimeUnit.MILLISECONDS));
        enough.countDown();
        holder.get();
        lock1.lock();
        lock1.unlock();
    }

    @Test
    void unlockWhenInterruptedBlocksUntilKeyRemoved() throws Exception {
        Lock lock = registry.obtain("test");
        assertEquals(true, elsewhere(() -> {
            lock.lock();
            Thread.currentThread().interrupt();
            lock.unlock();
            return Thread.interrupted();
        }));
        assertEquals(0, server.holders("registry:test"));
        assertTrue(lock.tryLock());
        lock.unlock();
    }
}
