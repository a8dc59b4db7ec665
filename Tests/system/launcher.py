# Starts and watches the daemon for a test that has files of its mount open. A process that starts another one closes
# the files it has open in the child, and closing a file of the mount waits for the daemon: whoever has such files
# cannot start it. So this small process is started first, and has none.
import json
import os
import signal
import subprocess
import sys
import threading
import time

from system import abort_mount

CRASHES = {-signal.SIGILL, -signal.SIGTRAP, -signal.SIGABRT, -signal.SIGSEGV, -signal.SIGBUS, -signal.SIGFPE}


class LaunchedProcess:
    """What subprocess.Popen offers, for a process that the launcher started."""

    def __init__(self, launcher, pid: int):
        self._launcher, self.pid, self.returncode = launcher, pid, None

    def poll(self):
        if self.returncode is None:
            self.returncode = self._launcher.ask(poll=self.pid)
        return self.returncode

    def wait(self, timeout=None):
        deadline = None if timeout is None else time.monotonic() + timeout
        while self.poll() is None:
            if deadline is not None and time.monotonic() > deadline:
                raise subprocess.TimeoutExpired("sheep", timeout)
            time.sleep(0.002)
        return self.returncode

    def send_signal(self, number: int):
        if self.poll() is None:
            os.kill(self.pid, number)


class Launcher:
    def __init__(self):
        self._process = subprocess.Popen([sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                         text=True)
        self._lock = threading.Lock()

    def ask(self, **question):
        with self._lock:
            self._process.stdin.write(json.dumps(question) + "\n")
            self._process.stdin.flush()
            return json.loads(self._process.stdout.readline())

    def start(self, command: list, environment: dict, log, mount) -> LaunchedProcess:
        """When the daemon crashes by itself, its `mount` ends too, so that the test fails instead of waiting."""
        return LaunchedProcess(
            self, self.ask(command=command, environment=environment, log=str(log), mount=str(mount)))

    def restart_later(self, process: LaunchedProcess, delay_seconds: float, command: list, environment: dict, log,
                      mount):
        """Kills `process` after a delay and starts its successor, whatever the caller waits for meanwhile: a fault in
        a mapped file of the mount stops all threads of an interpreter. Returns a function that waits for the end and
        gives the new process."""
        number = self.ask(restart=process.pid, delay=delay_seconds, command=command, environment=environment,
                          log=str(log), mount=str(mount))

        def join() -> LaunchedProcess:
            return LaunchedProcess(self, self.ask(join=number))
        return join

    def close(self):
        if self._process.poll() is None:
            self._process.stdin.close()
        self._process.wait(10)
        self._process.stdout.close()


def start(children: dict, question: dict) -> int:
    with open(question["log"], "ab") as log:
        child = subprocess.Popen(question["command"], env=question["environment"], stdin=subprocess.DEVNULL,
                                 stdout=log, stderr=log, start_new_session=True)
    children[child.pid] = child

    def watch():
        if child.wait() in CRASHES:
            abort_mount(question["mount"])
    threading.Thread(target=watch, daemon=True).start()
    return child.pid


def restart(children: dict, question: dict, result: list):
    time.sleep(question["delay"])
    children[question["restart"]].kill()
    children[question["restart"]].wait()
    result.append(start(children, question))


def main():
    children, restarts = {}, []
    for line in sys.stdin:
        question = json.loads(line)
        if "poll" in question:
            answer = children[question["poll"]].poll()
        elif "restart" in question:
            result = []
            thread = threading.Thread(target=restart, args=(children, question, result))
            thread.start()
            restarts.append((thread, result))
            answer = len(restarts) - 1
        elif "join" in question:
            thread, result = restarts[question["join"]]
            thread.join()
            answer = result[0]
        else:
            answer = start(children, question)
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
