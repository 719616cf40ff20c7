"""A driver: the program in the language of a library that does what the player asks for. README.md has the messages."""

import json
import subprocess
import threading


class Driver:
    def __init__(self, command):
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)
        self.hear, self.sending = lambda event: None, threading.Lock()
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"the driver says nothing: {command}")
        self.hello = json.loads(line)
        threading.Thread(target=self.listen, daemon=True).start()

    def listen(self):
        try:
            for line in self.process.stdout:
                self.hear(json.loads(line))
        except (ValueError, LookupError, TypeError, AttributeError, OSError):  # what it says, nobody understands
            self.process.kill()
        self.hear({"do": "gone"})

    def send(self, **request):
        with self.sending:
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()

    def stop(self):
        """It ends with its standard input. Returns its exit status."""
        self.hear = lambda event: None
        try:
            self.process.stdin.close()
            self.process.wait(10)
        except (OSError, subprocess.TimeoutExpired):
            self.process.kill()
        return self.process.wait()
