"""Puts the files of this folder to the test, on the stage of stage.py.

Every figure of INFO must come out of Prometheus under its own name and with its value, every query of the dashboard must find
data, every rule must be sound, and every alert must fire when what it is for is really done, and not before.
"""

import json
import re

from stage import HERE, WITH_THE_MODULE, Redis, Stage, free_port, get, wait_until


def make_load(port):
    """Something of everything that is counted."""
    one, two = Redis(port), Redis(port)
    for n in range(200):
        one.ask(f"LOCK.ACQUIRE k{n % 7} alice")
        one.ask(f"LOCK.RENEW k{n % 7} alice")
        one.ask(f"LOCK.RELEASE k{n % 7} alice")
    one.ask("LOCK.ACQUIRE busy alice")
    two.send("LOCK.ACQUIRE busy bob BLOCK 0")
    wait_until("a waiter", lambda: one.ask("LOCK.INFO busy")[7] == 1)
    one.ask("LOCK.RELEASE busy alice")
    two.read()
    one.ask("LOCK.ACQUIRE short alice PX 20")
    one.ask("LOCK.ACQUIRE gone alice")
    one.ask("DEL gone")
    one.ask("LOCK.ACQUIRE broken alice")
    one.ask("LOCK.BREAK broken")
    # Two who wait for each other: the second is refused.
    one.ask("LOCK.ACQUIRE left alice")
    two.send("LOCK.ACQUIRE left bob BLOCK 0")
    wait_until("a waiter", lambda: one.ask("LOCK.INFO left")[7] == 1)
    refused = one.ask("LOCK.ACQUIRE busy alice BLOCK 0")
    assert refused.startswith("DEADLOCK"), refused
    one.ask("LOCK.ACQUIRE busy carol QUEUE 600000")
    one.ask("LATCH.SET latch 3")
    wait_until("the lease to end", lambda: one.ask("EXISTS short") == 0)
    # The connections stay, and with them those who wait.
    return one, two


class Causes:
    """What the alerts are for, once in each turn."""

    def __init__(self, port):
        self.port, self.turn = port, 0
        self.one, self.two = Redis(port), Redis(port)
        self.waits = []
        # Any key may be evicted; with so much memory none is.
        self.one.ask("CONFIG SET maxmemory 8gb")
        self.one.ask("CONFIG SET maxmemory-policy allkeys-lru")
        self.one.ask("LOCK.ACQUIRE crowd alice PX 600000")
        self.one.ask("LOCK.ACQUIRE closed alice PX 600000")
        # bob has the second and waits for the first; alice will ask for the second.
        self.one.ask("LOCK.ACQUIRE first alice PX 600000")
        self.one.ask("LOCK.ACQUIRE second bob PX 600000")
        self.one.ask("LOCK.ACQUIRE first bob QUEUE 600000")

    def go_on(self, missing):
        one = self.one
        # The last, as nobody can wait then: the limit comes near the load.
        if missing == {"RedisLockMemoryFull"}:
            return one.ask(f"CONFIG SET lock.max-memory-bytes {figures(one)['redis_lock_memory_bytes'] * 10 // 9}")
        self.turn += 1
        turn = self.turn
        # RedisLockVanishes
        one.ask(f"LOCK.ACQUIRE gone{turn} alice")
        one.ask(f"DEL gone{turn}")
        # RedisLockDeadlocks
        refused = one.ask("LOCK.ACQUIRE second alice BLOCK 0")
        assert refused.startswith("DEADLOCK"), refused
        # RedisLockExpires
        one.ask(f"LOCK.ACQUIRE short{turn} alice PX 20")
        # RedisLockUntouched: granted over the connection, and no word about it after that
        one.ask(f"LOCK.ACQUIRE unheard{turn} alice")
        self.two.send(f"LOCK.ACQUIRE unheard{turn} bob BLOCK 0 PX 50")
        wait_until("a waiter", lambda: one.ask(f"LOCK.INFO unheard{turn}")[7] == 1)
        one.ask(f"LOCK.RELEASE unheard{turn} alice")
        self.two.read()
        # RedisLockClientsGiveUp
        gone = Redis(self.port)
        gone.send(f"LOCK.ACQUIRE closed hasty{turn} BLOCK 0")
        wait_until("a waiter", lambda: one.ask("LOCK.INFO closed")[7] == 1)
        gone.close()
        wait_until("no waiter", lambda: one.ask("LOCK.INFO closed")[7] == 0)
        # RedisLockQueueGrows
        for n in range(105 if turn == 1 else 1):
            one.ask(f"LOCK.ACQUIRE crowd t{turn}-{n} QUEUE 600000")
        # RedisLockWaitersFull, with room for the waits above
        if turn == 1:
            one.ask("CONFIG SET lock.max-waiters 20")
            for n in range(17):
                self.waits.append(Redis(self.port))
                self.waits[-1].send(f"LOCK.ACQUIRE crowd client{n} BLOCK 0")
        return None


def in_seconds(rules):
    """The same rules with seconds for minutes, so that a test sees them fire."""
    return re.sub(r"\[(\d+)m\]", r"[\1s]", re.sub(r"for: (\d+)m", r"for: \1s", rules))


def figures(connection):
    """The figures of INFO by their names in Prometheus."""
    found = {}
    for line in connection.ask("INFO lock").splitlines():
        if line.startswith("# "):
            is_counter = line.endswith("stats")
        elif ":" in line:
            name, value = line.split(":")
            # Nothing has failed over here, so the one time is 0.
            name = name.replace("_ms", "_seconds")
            found[f"redis_{name}{'_total' if is_counter else ''}"] = int(value)
    return found


def field(pairs, name):
    return pairs[pairs.index(name) + 1]


def histograms(connection):
    """The histograms of LOCK.STATS as Prometheus has them: names, with the bound of a bucket, and values."""
    found = {}
    stats = connection.ask("LOCK.STATS")
    for name in ["wait", "hold", "handoff-delay"]:
        times = field(stats, f"{name}-us")
        family = f"redis_lock_{name.replace('-', '_')}_seconds"
        buckets = field(times, "buckets")
        for bound in [2**power for power in range(6, 34)]:
            below = sum(count for of, count in zip(buckets[::2], buckets[1::2]) if of <= bound)
            found[f"{family}_bucket", f"{bound / 1e6:.6f}"] = below
        found[f"{family}_bucket", "+Inf"] = found[f"{family}_count", ""] = field(times, "count")
        found[f"{family}_sum", ""] = field(times, "sum") / 1e6
    return found


def main():
    port, bare_port = free_port(), free_port()
    with Stage() as stage:
        stage.start_server(port, *WITH_THE_MODULE)
        stage.start_server(bare_port)
        _, bare_instance = stage.watch([port, bare_port], rules=in_seconds)

        def firing():
            rows = stage.query('ALERTS{alertstate="firing"}')
            return {(row["metric"]["alertname"], row["metric"]["instance"]) for row in rows}

        not_loaded = ("RedisLockNotLoaded", bare_instance)
        wait_until("the alert on a server without the module", lambda: not_loaded in firing())
        assert firing() == {not_loaded}, firing()

        connections = make_load(port)

        def differing():
            """Figures that Prometheus does not have as INFO tells them now."""
            found = {name: [row["value"][1] for row in stage.query(name)] for name in figures(connections[0])}
            return [name for name, value in figures(connections[0]).items() if found.get(name) != [str(value)]]

        unknown = [name for name in figures(connections[0]) if name not in (HERE / "rules/redis-lock.yml").read_text()]
        assert not unknown, f"no rule makes {unknown}"
        wait_until("Prometheus to have each figure of INFO", lambda: not differing(), differing)

        def differing_times():
            """Parts of histograms that Prometheus does not have as LOCK.STATS tells them now."""
            expected = histograms(connections[0])
            rows = [(name, row) for name in {name for name, _ in expected} for row in stage.query(name)]
            found = {(name, row["metric"].get("le", "")): float(row["value"][1]) for name, row in rows}
            return {part: (value, found.get(part)) for part, value in expected.items() if found.get(part) != value} or (
                sorted(found.keys() - expected.keys()))

        wait_until("Prometheus to have the histograms of LOCK.STATS", lambda: not differing_times(), differing_times)
        for name in ["wait", "hold"]:
            median = float(stage.query(f"histogram_quantile(0.5, redis_lock_{name}_seconds_bucket)")[0]["value"][1])
            exact = field(field(connections[0].ask("LOCK.STATS"), f"{name}-us"), "p50") / 1e6
            assert exact / 2.3 <= max(median, 64e-6) and median <= max(2 * exact, 64e-6), f"{name}: {median} for {exact}"
        print(f"{len(histograms(connections[0]))} parts of histograms are in Prometheus as LOCK.STATS has them")

        expected = figures(connections[0])
        print(f"{len(expected)} figures of INFO are in Prometheus as they are")

        dashboard = json.loads((HERE / "grafana/redis-lock.json").read_text())
        queries = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
        for expr in queries:
            expr = expr.replace("$instance", ".*").replace("$__rate_interval", "30s")
            wait_until(f"data for {expr}", lambda: stage.query(expr))
        print(f"{len(queries)} queries of the dashboard find data")

        rules = wait_until("the rules", lambda: json.loads(get(f"{stage.prometheus}/api/v1/rules") or "{}"))["data"]["groups"]
        unsound = [rule for group in rules for rule in group["rules"] if rule["health"] != "ok"]
        assert not unsound, unsound
        known = set(re.findall(r"redis_lock_\w+", (HERE / "rules/redis-lock.yml").read_text()))
        used = set(re.findall(r"redis_lock_\w+", (HERE / "rules/redis-lock-alerts.yml").read_text() + " ".join(queries)))
        assert used <= known, f"no rule makes {used - known}"
        alerts = set(re.findall(r"alert: (\w+)", (HERE / "rules/redis-lock-alerts.yml").read_text()))
        causes, fired = Causes(port), set()

        def all_fired():
            causes.go_on(alerts - fired)
            fired.update(name for name, _ in firing())
            return alerts == fired

        wait_until("every alert", all_fired, lambda: alerts - fired)
        print(f"{len(alerts)} alerts fire when what they are for is done")


main()
