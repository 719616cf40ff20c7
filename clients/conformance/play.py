"""Plays scenarios.json with the driver of a language, several at a time, each on a server of its own. It needs Python alone.

usage: SERVER_BIN=redis-server MODULE_PATH=module.so play.py LANGUAGE WAY[,WAY…] DRIVER...

DRIVER is a command, to which the name of a way is added: the client library, or threads and tasks, whatever the driver plays.
It prints a line for each scenario, and says what it does not play, and why. Then it ends with the number of each, and with an
error if one has failed.

    TESTS=text   only scenarios whose name has this in it
    BRIEF=1      the short form
"""

import collections
import concurrent.futures
import json
import os
import queue
import sys
import threading
import time

from driver import Driver
from place import Missing, Place
from scenario import Play
from server import HERE, Failed

BRIEF = bool(os.environ.get("BRIEF"))
AT_ONCE = 4
NOT_HERE = {"alone": {"failover": "only with sentinels"}}  # what cannot happen at a place
LANES = ["alone", "alone", "cluster", "tls", "sentinel"]  # most scenarios are played alone
WARM = [{"do": "acquire", "who": "a", "within": 30, "expect": "held"}, {"do": "release", "who": "a", "expect": "ok"}]


class Report:
    def __init__(self):
        self.printing, self.counts, self.failures = threading.Lock(), collections.Counter(), []

    def say(self, what, name, more=""):
        with self.printing:
            self.counts[what] += 1
            line = f"{what}: {name}{more}"
            print(line, flush=True)
            if what == "failed":
                self.failures.append(line)

    def end(self):
        """What has failed once more, and the line that tools/clients.sh looks for."""
        print("", *self.failures, sep="\n")
        others = [f"{self.counts[what]} {what}" for what in ("failed", "skipped") if self.counts[what]]
        print(f"{self.counts['passed']} scenarios passed", *others, sep=", ")
        is_empty = not self.counts["passed"] and not os.environ.get("TESTS")
        return 1 if self.failures or is_empty else 0


class Lane:
    """Plays scenarios one after the other, with a driver and a place, as long as there are any."""

    def __init__(self, language, way, kind, command, scenarios, report):
        self.language, self.way, self.kind, self.command = language, way, kind, [*command, way]
        self.scenarios, self.report, self.driver, self.place = scenarios, report, None, None
        self.title = way if kind == "alone" else f"{way} on {kind}"

    def run(self):
        try:
            while True:
                self.one(self.scenarios.get_nowait())
        except queue.Empty:
            pass
        except Missing as reason:
            self.report.say("skipped", self.title, f": {reason}")
        status = self.stop()
        if status:
            self.report.say("failed", self.title, f": the driver has ended with {status}")

    def one(self, scenario):
        name, begun = f"{self.title}: {scenario['name']}", time.monotonic()
        self.driver = self.driver or Driver(self.command)
        reason = self.reason_to_skip(scenario)
        if reason:
            return self.report.say("skipped", name, f": {reason}")
        try:
            self.begin()
            self.play(scenario)
            self.report.say("passed", name, f" ({time.monotonic() - begun:.1f} s)")
        except Missing:
            raise
        except Exception as error:  # whatever it is, the other scenarios are played
            self.stop()  # whatever it has left, the next one begins anew
            self.report.say("failed", name, f": {error if isinstance(error, Failed) else repr(error)}")

    def begin(self):
        if self.kind in self.driver.hello["cannot"]:
            raise Missing(self.driver.hello["cannot"][self.kind])
        if not self.place:
            self.place = Place(self.kind)
            self.play({"steps": WARM})  # loads what a driver loads with its first lock, which may take seconds

    def play(self, scenario):
        self.place.clean(scenario.get("needs", []))
        Play(scenario, self.driver, self.place).play()
        self.place.end_successor()

    def reason_to_skip(self, scenario):
        hello, place = self.driver.hello, NOT_HERE.get(self.kind, {})
        reasons = [scenario.get("not-yet"), *(scenario.get("except", {}).get(name) for name in (self.language, self.way))]
        for need in scenario.get("needs", []):
            reasons += [place.get(need), hello["cannot"].get(need), hello["cannot"].get(f"{need} on {self.kind}")]
            if need == "unblock" and hello.get("waits") == "tickets":
                reasons.append("who waits has a ticket, and blocks nothing")
        return next(filter(None, reasons), None)

    def stop(self):
        """Returns the exit status of the driver."""
        status = self.driver.stop() if self.driver else 0
        if self.place:
            self.place.stop()
        self.driver = self.place = None
        return status


def main(language, ways, *command):
    if not os.environ.get("SERVER_BIN") or not os.environ.get("MODULE_PATH"):
        raise SystemExit("set SERVER_BIN and MODULE_PATH, or run make test-clients")
    scenarios, report, lanes = wanted(), Report(), []
    for way in ways.split(","):
        waiting = {}
        for kind in LANES:
            if kind not in waiting:
                waiting[kind] = queue.SimpleQueue()
                for scenario in filter(lambda scenario: belongs(scenario, kind), scenarios):
                    waiting[kind].put(scenario)
            lanes.append(Lane(language, way, kind, command, waiting[kind], report))
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        for lane in [pool.submit(lane.run) for lane in lanes]:
            lane.result()
    return report.end()


def belongs(scenario, kind):
    """Whether it is played there: in the short form a few with TLS and with sentinels, which take long to begin."""
    is_few = BRIEF and kind in ("tls", "sentinel")
    return kind == "alone" or kind in scenario.get("on", []) and (not is_few or scenario.get("always", False))


def wanted():
    named = [one for one in json.loads((HERE / "scenarios.json").read_text()) if os.environ.get("TESTS", "") in one["name"]]
    thorough = [scenario for scenario in named if BRIEF and scenario.get("thorough")]
    if thorough:
        print(f"only in the long form: {len(thorough)} scenarios, and most with TLS and Sentinel")
    return [scenario for scenario in named if scenario not in thorough]


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
