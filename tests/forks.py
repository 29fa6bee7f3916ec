"""Processes for the tests that need one, without importing torch again (five seconds each).

The server is forked off the test process when everything is imported and before the first test
runs, so it is as clean as a new interpreter with those imports: no leftovers of tests, no autograd
threads, no process group. Every job is forked off the server.
"""

import multiprocessing
import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NoReturn


class Forks:
    """Starts functions in processes of their own."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("fork")
        self._ours, theirs = context.Pipe()
        server = context.Process(target=_serve, args=(theirs, self._ours), daemon=True)
        server.start()
        theirs.close()

    def start(
        self, function: Callable[..., object], *arguments: object, env: Mapping[str, str] = {}
    ) -> "Child":
        """Begin ``function(*arguments)``, importable by name, with additions to the environment."""
        handle, log = tempfile.mkstemp(suffix=".log")
        os.close(handle)
        pid = self._ask("start", function, arguments, dict(env), log)
        return Child(pid, Path(log), self._ask)

    def _ask(self, *request: object) -> Any:
        self._ours.send(request)
        return self._ours.recv()


class Child:
    """A running function."""

    def __init__(self, pid: int, log: Path, ask: Callable[..., Any]) -> None:
        self.pid = pid
        self.output = ""  # both streams, once it has ended
        self._log, self._ask, self._status = log, ask, None

    def poll(self) -> int | None:
        """Return the exit status (negative: signal), or None while it runs."""
        if self._status is None:
            self._status = self._ask("poll", self.pid)
            if self._status is not None:
                self.output = self._log.read_text(errors="replace")
                self._log.unlink()
        return self._status

    def wait(self, timeout: float = 300) -> int:
        """Return the exit status (negative: signal) at the end; kill it after ``timeout`` s."""
        end = time.monotonic() + timeout
        while (status := self.poll()) is None:
            if time.monotonic() > end:
                os.killpg(self.pid, signal.SIGKILL)
            time.sleep(0.02)
        return status


def _serve(requests: Connection, other_end: Connection) -> None:
    other_end.close()
    while True:
        try:
            kind, *rest = requests.recv()
        except EOFError:  # the tests are over
            os._exit(0)
        if kind == "poll":
            pid, status = os.waitpid(*rest, os.WNOHANG)
            requests.send(os.waitstatus_to_exitcode(status) if pid else None)
        elif child := os.fork():
            requests.send(child)
        else:
            requests.close()
            _run(*rest)


def _run(
    function: Callable[..., object], arguments: Any, env: dict[str, str], log: str
) -> NoReturn:
    status = 1
    try:
        os.setsid()
        os.environ.update(env)
        stream = Path(log).open("w", buffering=1)  # noqa: SIM115
        for number in (1, 2):
            os.dup2(stream.fileno(), number)
        sys.stdout = sys.stderr = stream
        function(*arguments)
        status = 0
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(status)
