import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.util.concurrent.TimeUnit;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.CuratorFrameworkFactory;
import org.apache.curator.framework.recipes.locks.InterProcessMutex;
import org.apache.curator.retry.RetryOneTime;
import org.redisson.Redisson;
import org.redisson.api.RLock;
import org.redisson.api.RedissonClient;
import org.redisson.config.Config;

/** One client of a lock from Java, driven line by line; see src/peers/child.rs for the words. */
public class Locks {
    interface Take {
        void run() throws Exception;
    }

    interface Give {
        boolean run() throws Exception;
    }

    public static void main(String[] words) throws Exception {
        String peer = words[0];
        int lease = Integer.parseInt(words[1]);
        String name = words[3];
        int port = Integer.parseInt(words[5]);
        Take take;
        Give give;
        if (peer.equals("curator")) {
            CuratorFramework client =
                CuratorFrameworkFactory.newClient("127.0.0.1:" + port, lease, lease, new RetryOneTime(100));
            client.start();
            client.blockUntilConnected();
            InterProcessMutex lock = new InterProcessMutex(client, "/" + name);
            take = lock::acquire;
            give = () -> {
                lock.release();
                return true;
            };
        } else {
            Config config = new Config();
            config.useSingleServer().setAddress("redis://127.0.0.1:" + port)
                .setConnectionMinimumIdleSize(1).setSubscriptionConnectionMinimumIdleSize(1);
            RedissonClient client = Redisson.create(config);
            RLock lock = peer.equals("redissonfair") ? client.getFairLock(name) : client.getLock(name);
            take = () -> lock.lock(lease, TimeUnit.MILLISECONDS);
            give = () -> {
                if (!lock.isHeldByCurrentThread()) {
                    return false;
                }
                lock.unlock();
                return true;
            };
        }
        System.out.println("ready");
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in));
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            try {
                if (line.equals("acquire")) {
                    take.run();
                    System.out.println("held -");
                } else {
                    System.out.println("released " + (give.run() ? 1 : 0));
                }
            } catch (Exception error) {
                System.out.println("error " + String.valueOf(error).replace('\n', ' '));
            }
        }
        System.exit(0);
    }
}
