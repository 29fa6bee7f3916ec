"""Client of the job server: hands this process's job over, waits, and tells how it ended.

Every job of a run begins with it, so it imports next to nothing.
"""

import json
import os
import signal
import socket
import sys
from contextlib import suppress
from types import FrameType

SERVER = "COTO_JOB_SERVER"
"""Environment variable: path of the job server's socket."""
SIZE = 4
"""Bytes that tell how long a request is."""
# Seconds to wait for a server that still imports; after that, importing here is no slower.
PATIENCE = 60.0


def identity() -> list[str]:
    """What a server shares with its clients; otherwise a job could run differently there."""
    return [sys.prefix, sys.version, os.path.dirname(__file__)]  # noqa: PTH120


def hand_over() -> int | None:
    """Let the job server run ``sys.argv`` in this process's place.

    The job gets this process's standard streams, folder, environment, umask and import path, and
    the signals that would end it. Should this process end first, the job is killed.

    Returns:
        The job's exit status, 128 + n after signal n; None if no server took the job.
    """
    path = os.environ.get(SERVER)
    if path is None:
        return None
    with socket.socket(socket.AF_UNIX) as server:
        lines = server.makefile("r")
        try:
            server.settimeout(PATIENCE)
            server.connect(path)
            if json.loads(lines.readline()) != identity():
                return None
            request = json.dumps(_request()).encode()
            socket.send_fds(server, [len(request).to_bytes(SIZE)], [0, 1, 2])
            server.sendall(request)
        except (OSError, ValueError):  # no server, or one that ended before it had the request
            return None

        def forward(number: int, frame: FrameType | None) -> None:
            with suppress(OSError):
                server.send(bytes([number]))

        for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
            signal.signal(number, forward)
        server.settimeout(None)
        status = lines.readline()
    if not status:
        print("the job server lost this job", file=sys.stderr)
        return 1
    return int(status) if int(status) >= 0 else 128 - int(status)


def _request() -> dict[str, object]:
    umask = os.umask(0)
    os.umask(umask)
    return {
        "arguments": sys.argv,
        "import_path": sys.path,
        "folder": os.getcwd(),  # noqa: PTH109
        "umask": umask,
        "environment": dict(os.environ),
    }
