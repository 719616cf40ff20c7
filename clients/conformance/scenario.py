"""One scenario, as it is played: its steps, and what is checked in each."""

import threading
import time

from server import Failed, until

ALONE = ("exclusive", "multi")  # kinds of which one excludes all others
TAKES_AWAY = ("LOCK.BREAK", "LOCK.STEAL", "LOCK.TRANSFER", "DEL", "SET", "FLUSHALL")
PATIENCE = 30  # in seconds, for what has no limit of its own
PROMPT = 8  # for what must not be done by the end of a lease, which is 10 s if nothing is said


class Play:
    def __init__(self, scenario, driver, place):
        self.scenario, self.driver, self.place = scenario, driver, place
        self.server, self.keys = place.server, scenario.get("keys", ["k"])
        self.changed = threading.Condition()
        self.wrong = None  # what was found by the thread that hears the driver
        self.calls = {}  # the acquire of each name
        self.events = {}  # the newest of each sort and name
        self.believers = set()
        self.order = []  # the numbers of the crowd that had their turn
        self.crowd = self.many = 0
        driver.hear = self.heard

    # What the driver says

    def heard(self, event):
        with self.changed:
            who = event.get("who") or None
            self.events[event["do"], who] = event
            if event["do"] == "gone":
                self.wrong = "the driver has ended"
            elif event["do"] == "acquire" and event["outcome"] == "held":
                self.believe(who)
            elif event["do"] == "release" and "number" in self.calls.get(who, ()) and event["outcome"] != "ok":
                self.wrong = f"the release of {who}: {event}"
            elif event["do"] == "lost":
                self.believers.discard(who)
            self.changed.notify_all()

    def believe(self, who):
        call = self.calls[who]
        for other in sorted(self.believers):
            theirs = self.calls[other]
            if call["owner"] and call["owner"] == theirs["owner"]:
                continue  # one holder, who has it twice
            if set(call["keys"]) & set(theirs["keys"]) and (call["kind"] in ALONE or theirs["kind"] in ALONE):
                self.wrong = f"{who} and {other} believe in one lock at one moment"
        if "number" in call:
            self.order.append(call["number"])
            self.driver.send(do="release", who=who)
        elif ("lost", who) not in self.events:
            self.believers.add(who)

    def wait(self, what, condition, within):
        with self.changed:
            self.changed.wait_for(lambda: self.wrong or condition(), within)
            if self.wrong or not condition():
                raise Failed(self.wrong or f"not so after {within} s: {what}")

    def pause(self, seconds):
        """Time passes, and nothing is found wrong."""
        time.sleep(seconds)
        self.wait("nothing is wrong", lambda: True, 0)

    def answer(self, do, who, within):
        self.wait(f"the answer to {do} {who or ''}", lambda: (do, who) in self.events, within)
        return self.events[do, who]

    def ask(self, do, who=None, within=PATIENCE, **fields):
        with self.changed:
            self.events.pop((do, who), None)
        self.driver.send(do=do, **fields, **({"who": who} if who else {}))
        return self.answer(do, who, within)

    def do(self, do, who=None, **fields):
        self.expect(self.ask(do, who, **fields), "ok")

    def expect(self, event, expected):
        outcome = event["outcome"]
        if outcome != expected and not (expected == "not-held" and outcome in ("busy", "error")):
            who, error = event["who"], event.get("error", "")
            raise Failed(f"{event['do']} of {who}: {outcome}, expected {expected}: {error}")

    # Before and after the steps

    def play(self):
        self.connections = self.server.connections()
        programs = 1 + any(step.get("program") == 2 for step in self.scenario["steps"])
        client = {"connections": 50, "timeout": 5, **self.scenario.get("client", {})}
        for program in range(1, programs + 1):
            self.do("open", program=program, **client, **self.place.where(client))
        for step in self.scenario["steps"]:
            getattr(self, "do_" + step["do"].replace("-", "_"))(step)
            self.pause(0)
        until("no lock is held and nobody waits", lambda: self.server.idle(self.keys), 2)
        self.do_struck()
        if "keeps" in self.driver.hello and self.place.kind == "alone":
            self.connections_left("the library's own", self.connections + programs * self.driver.hello["keeps"])
        self.end()

    def end(self):
        self.place.tell("heal")
        self.do("end")
        for who in self.calls:
            self.answer("acquire", who, 5)
        until(lambda: f"nothing is left but {self.events['left', None]['left']}", lambda: not self.ask("left")["left"], 10)
        if self.place.kind == "alone":
            self.connections_left("the client's", self.connections)

    def connections_left(self, whose, most):
        until(f"{whose} connections are closed", lambda: self.place.first.connections() <= most, 10)

    # The steps

    def start(self, who, step, **more):
        kind, keys = step.get("kind", "exclusive"), [step.get("key", self.keys[0])]
        call = {"keys": self.keys if kind == "multi" else keys, "kind": kind, "timeout": step.get("timeout", 10)}
        for name, usual in {"program": 1, "limit": None, "owner": None, "wait": None, "renew": False, "watch": False, "most": None}.items():
            call[name] = step.get(name, usual)
        self.calls[who] = {**call, **more}
        for do in ("acquire", "lost"):
            self.events.pop((do, who), None)
        self.driver.send(do="acquire", who=who, **call)

    def do_acquire(self, step):
        self.start(step["who"], step)
        if not step.get("later"):
            self.do_join(step)

    def do_join(self, step):
        self.expect(self.answer("acquire", step["who"], step.get("within", 5)), step["expect"])

    def do_cancel(self, step):
        self.do("cancel", step["who"])

    def do_release(self, step):
        with self.changed:
            self.believers.discard(step["who"])
        self.expect(self.ask("release", step["who"], PROMPT), step["expect"])

    def do_extend(self, step):
        self.expect(self.ask("extend", step["who"], PROMPT, seconds=step["seconds"]), step["expect"])

    def do_owned(self, step):
        owned = self.ask("owned", step["who"], step.get("within", PATIENCE))["owned"]
        if owned is not step["expect"]:
            raise Failed(f"{step['who']} owned: {owned}")

    def do_lost(self, step):
        reason = self.answer("lost", step["who"], step["within"])["reason"]
        if reason not in step["reason"].split(" or "):
            raise Failed(f"{step['who']} is lost: {reason}, expected {step['reason']}")

    def do_not_lost(self, step):
        self.pause(step["for"])
        if ("lost", step["who"]) in self.events:
            raise Failed(f"{self.events['lost', step['who']]}")

    def do_drop(self, step):
        with self.changed:
            self.believers.discard(step["who"])
        self.do("drop", step["who"])

    def do_fork(self, step):
        self.do("fork", step["who"])

    def do_rising(self, step):
        fences = [self.events["acquire", who]["fence"] for who in step["who"]]
        if fences != sorted(set(fences)):
            raise Failed(f"the fences of {step['who']} are {fences}")

    def do_crowd(self, step):
        for number in range(step["n"]):
            before = self.server.waiting(self.keys[0])
            self.start(f"crowd-{number}", {}, number=number)
            until("it is in line", lambda: self.server.waiting(self.keys[0]) == before + 1)
        self.crowd = step["n"]

    def do_crowd_in_order(self, step):
        self.wait("all had their turn", lambda: len(self.order) == self.crowd, step["within"])
        if self.order != sorted(self.order):
            raise Failed(f"the turns were {self.order}")

    def do_many(self, step):
        self.keys = [f"k:{number}" for number in range(step["n"])]
        for key in self.keys:
            self.start(key, {"key": key, "wait": 0, "timeout": step["timeout"], "renew": True})
            self.expect(self.answer("acquire", key, PATIENCE), "held")

    def do_release_many(self, step):
        for key in self.keys:
            self.do_release({"who": key, "expect": "ok"})

    def do_reads(self, step):
        figure = self.server.figure
        looks = lambda: (figure("commandstats", "cmdstat_lock.renew"), figure("stats", "total_reads_processed"))
        before = looks()
        self.pause(step["for"])
        renewals, reads = (now - then for now, then in zip(looks(), before))
        with self.changed:
            lost = [who for do, who in self.events if do == "lost"]
        if renewals < step["renewals"] or reads > step["at-most"] or lost:
            raise Failed(f"{renewals} renewals in {reads} reads, lost: {lost}")

    def do_close(self, step):
        self.believers.clear()
        self.do("close")

    def do_exhaust(self, step):
        self.taken = self.ask("exhaust")["taken"]
        until("all connections wait", lambda: self.server.figure("clients", "blocked_clients") == self.taken)

    def do_give_back(self, step):
        self.server.cmd("RPUSH", "nothing", *range(self.taken))

    def do_server(self, step):
        words = step["args"]
        if words[0] in TAKES_AWAY and "NX" not in words:  # in its moment nobody is right to believe, and who did is told later
            with self.changed:
                taken = [who for who in self.believers if len(words) == 1 or set(words) & set(self.calls[who]["keys"])]
                self.believers.difference_update(taken)
        reply = self.server.cmd(*words)
        if reply != step.get("reply", reply):
            raise Failed(f"{words}: {reply!r}, expected {step['reply']!r}")

    def do_restart(self, step):
        self.server.restart()

    def do_unblock(self, step):
        self.server.unblock(step["with"])

    def do_failover(self, step):
        self.server = self.place.failover()

    def do_successor(self, step):
        self.server = self.place.successor
        self.server.promote()
        self.place.tell(f"server {self.server.port}")

    def do_until(self, step):
        server, key, tickets = self.server, step.get("key", self.keys[0]), self.driver.hello.get("waits") == "tickets"
        looks = {
            "waiting": server.waiting,
            "holders": server.holders,
            "mode": lambda key: server.info(key)["mode"],
            "blocked": server.waiting if tickets else lambda key: server.figure("clients", "blocked_clients"),
        }
        wanted = {what: step[what] for what in step.keys() - {"do", "key", "within"}}
        if not wanted or wanted.keys() - looks.keys():
            raise Failed(f"not known: {step}")
        so = lambda: all(looks[what](key) == value for what, value in wanted.items())
        until(f"{wanted}", so, step.get("within", 5))

    def do_fault(self, step):
        """What claims a turn may be another request in this library. Who holds, renews."""
        line = step["line"]
        if not self.believers:
            claims = self.driver.hello.get("claims", "LOCK.RENEW")
            line = line.replace("LOCK.RENEW", claims).replace("LOCK.MRENEW", claims.replace("LOCK.", "LOCK.M"))
        self.place.tell(line)

    def do_struck(self, step=None):
        """Each fault has befallen something, or the scenario shows nothing."""
        until(lambda: f"it befell nothing: {self.place.unmet()}", lambda: not self.place.unmet())

    def do_sleep(self, step):
        self.pause(step["seconds"])
