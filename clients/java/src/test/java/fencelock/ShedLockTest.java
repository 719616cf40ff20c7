package fencelock;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import fencelock.shedlock.FencedLockProvider;
import java.time.Duration;
import java.util.Optional;
import java.util.concurrent.CyclicBarrier;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.stream.IntStream;
import net.javacrumbs.shedlock.core.ClockProvider;
import net.javacrumbs.shedlock.core.LockConfiguration;
import net.javacrumbs.shedlock.core.SimpleLock;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;

/**
 * The cases of ShedLock's own AbstractLockProviderIntegrationTest and AbstractExtensibleLockProviderIntegrationTest, which no
 * published package carries, written anew under their names.
 */
class ShedLockTest {
    private static final Duration MINUTES = Duration.ofMinutes(5);

    private Server server;
    private Client client;
    private FencedLockProvider provider;

    @BeforeEach
    void begin() throws Exception {
        server = Server.empty();
        client = Client.of("jedis", server.port, 20, 5);
        provider = new FencedLockProvider(client.locks);
    }

    @AfterEach
    void end() {
        client.close();
    }

    private Optional<SimpleLock> lock(String name, Duration most, Duration least) {
        return provider.lock(new LockConfiguration(ClockProvider.now(), name, most, least));
    }

    private SimpleLock take(Duration most, Duration least) {
        return lock("name", most, least).orElseThrow();
    }

    /** Held, or in its cooldown: nobody else gets it. */
    private void assertLocked() {
        assertEquals(null, server.cmd("LOCK.ACQUIRE", "shedlock:name", "looker"));
    }

    private void assertUnlocked() {
        assertTrue(server.cmd("LOCK.ACQUIRE", "shedlock:name", "looker") instanceof Long);
        server.cmd("LOCK.RELEASE", "shedlock:name", "looker");
    }

    @Test
    void shouldCreateLock() {
        SimpleLock lock = take(MINUTES, Duration.ZERO);
        assertLocked();
        lock.unlock();
        assertUnlocked();
    }

    @Test
    void shouldNotReturnSecondLock() {
        SimpleLock lock = take(MINUTES, Duration.ZERO);
        assertTrue(lock("name", MINUTES, Duration.ZERO).isEmpty());
        lock.unlock();
    }

    @Test
    void shouldCreateTwoIndependentLocks() {
        SimpleLock one = take(MINUTES, Duration.ZERO), two = lock("name2", MINUTES, Duration.ZERO).orElseThrow();
        one.unlock();
        two.unlock();
    }

    @Test
    void shouldLockTwiceInARow() {
        take(MINUTES, Duration.ZERO).unlock();
        take(MINUTES, Duration.ZERO).unlock();
    }

    @Test
    void shouldTimeout() {
        take(Duration.ofMillis(50), Duration.ZERO);
        Server.pause(0.055);
        assertUnlocked();
        take(MINUTES, Duration.ZERO).unlock();
    }

    @Test
    void shouldBeAbleToLockRightAfterUnlock() {
        for (int i = 0; i < 10; i++) {
            SimpleLock lock = take(MINUTES, Duration.ZERO);
            assertTrue(lock("name", MINUTES, Duration.ZERO).isEmpty());
            lock.unlock();
        }
    }

    @Test
    void fuzzTestShouldPass() throws Exception {
        int[] counter = {0};
        ExecutorService pool = Executors.newFixedThreadPool(8);
        CyclicBarrier start = new CyclicBarrier(8);
        for (Future<?> done : IntStream.range(0, 8).mapToObj(i -> pool.submit(() -> {
            start.await();
            for (int rounds = 0; rounds < 25;) {
                Optional<SimpleLock> lock = lock("name", MINUTES, Duration.ZERO);
                if (lock.isPresent()) {
                    int seen = counter[0]; // not safe but for the lock
                    Thread.yield();
                    counter[0] = seen + 1;
                    rounds++;
                    lock.get().unlock();
                }
            }
            return null;
        })).toList()) {
            done.get();
        }
        pool.shutdown();
        assertEquals(200, counter[0]);
    }

    @Test
    void shouldLockAtLeastFor() {
        take(Duration.ofSeconds(4), Duration.ofSeconds(2)).unlock();
        assertTrue(lock("name", MINUTES, Duration.ZERO).isEmpty());
        Server.pause(2);
        take(MINUTES, Duration.ZERO).unlock();
    }

    @Test
    void shouldBeAbleToExtendLock() {
        SimpleLock lock = take(Duration.ofSeconds(2), Duration.ZERO);
        assertLocked();
        SimpleLock longer = lock.extend(Duration.ofSeconds(10), Duration.ZERO).orElseThrow();
        Server.pause(2.1);
        assertLocked();
        longer.unlock();
        assertUnlocked();
    }

    @Test
    void shouldNotBeAbleToExtendUnlockedLock() {
        SimpleLock lock = take(MINUTES, Duration.ZERO);
        lock.unlock();
        assertUnlocked();
        assertThrows(IllegalStateException.class, () -> lock.extend(Duration.ofSeconds(10), Duration.ZERO));
    }

    @Test
    void shouldNotBeAbleToExtendExpiredLock() {
        SimpleLock lock = take(Duration.ofMillis(1), Duration.ZERO);
        Server.pause(0.005);
        assertFalse(lock.extend(Duration.ofSeconds(10), Duration.ZERO).isPresent());
        assertUnlocked();
    }

    @Test
    void shouldBeAbleToExtendAtLeast() {
        SimpleLock lock = take(Duration.ofSeconds(10), Duration.ZERO);
        lock.extend(Duration.ofSeconds(10), Duration.ofSeconds(9)).orElseThrow().unlock();
        assertLocked();
    }

    @Test
    void lockCanNotBeExtendedTwice() {
        SimpleLock lock = take(Duration.ofSeconds(10), Duration.ZERO);
        lock.extend(Duration.ofSeconds(10), Duration.ofSeconds(9)).orElseThrow();
        assertThrows(IllegalStateException.class, () -> lock.extend(Duration.ofSeconds(10), Duration.ofSeconds(9)));
    }

    @Test
    void lockCanNotBeUnlockedAfterExtending() {
        SimpleLock lock = take(Duration.ofSeconds(10), Duration.ZERO);
        lock.extend(Duration.ofSeconds(10), Duration.ofSeconds(9)).orElseThrow();
        assertThrows(IllegalStateException.class, lock::unlock);
    }

    @Test
    void anOldLockMadeWithSetNxIsBusy() {
        server.cmd("SET", "shedlock:name", "old", "NX", "PX", "60000");
        assertTrue(lock("name", MINUTES, Duration.ZERO).isEmpty());
    }
}
