"""The job server: has the libraries imported, and forks every job of a run off itself.

Importing torch and what stands on it takes a job longer than most jobs then work. `coto.reproduce`
starts this process beside Snakemake; ``python -m coto`` finds it by an environment variable and
hands its job over (see :mod:`coto.handover`). Modules of this package are not imported here, so
that every job runs the code as it is.

Each connection has an attendant, forked off the server: it forks the job, passes the client's
signals on and tells the job's exit status. No job outlives its client or its attendant. The server
itself ends with its standard input; jobs that run then are finished.

In Snakemake's benchmark files the wall time is the job's; memory and processor time are the waiting
client's. A job's peak memory, with all that is imported here, is in its record.
"""

import atexit
import ctypes
import gc
import json
import os
import select
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Iterable
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import NoReturn

from coto import compat
from coto.handover import SIZE, identity

# What the stages import, at any depth, that takes more than a few milliseconds.
PRELOADED = (
    "pandas",
    "torch",
    "transformers.trainer",
    "peft",
    "datasets",
    "evaluate",
    "lm_eval.models.huggingface",
    "timm",
    "torchvision.transforms.v2",
    "sklearn.linear_model",
    "matplotlib.figure",
)
# On top of the jobs' own environment: a process that forks must have one thread and must not have
# asked the CUDA driver anything.
ENVIRONMENT = {
    "JE_ARROW_MALLOC_CONF": "background_thread:false",
    "PYTORCH_NVML_BASED_CUDA_CHECK": "1",
}
_PR_SET_PDEATHSIG = 1


def preload(modules: Iterable[str]) -> None:
    """Import modules and get ready to fork; ends the process if an import started threads."""
    compat.install()
    gc.disable()
    for module in modules:
        try:
            import_module(module)
        except Exception as error:  # the job that needs it will fail and tell
            print(f"{module}: {error}", file=sys.stderr)
    gc.freeze()  # jobs share these objects: nobody need walk through them
    gc.enable()
    threads = len(list(Path("/proc/self/task").iterdir()))
    if threads > 1:
        sys.exit(f"{threads} threads after the imports: a fork would not be safe")


def serve(listener: socket.socket) -> None:
    """Take jobs until standard input is closed; returns only in a job's own process."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # attendants need no burial
    while True:
        ready, _, _ = select.select([listener, sys.stdin], [], [])
        if sys.stdin in ready:
            _clear_away(Path(listener.getsockname()))
            sys.exit()
        connection, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            _attend(connection)
            return
        connection.close()


def _clear_away(path: Path) -> None:
    """Remove the socket in its folder, which whoever made them was killed before doing."""
    with suppress(OSError):
        path.unlink()
        path.parent.rmdir()


def _attend(connection: socket.socket) -> None:
    """Fork a client's job and be there for both; returns only in the job's process."""
    connection.sendall(json.dumps(identity()).encode() + b"\n")
    size, streams, _, _ = socket.recv_fds(connection, SIZE, 3)
    request = connection.recv(int.from_bytes(size), socket.MSG_WAITALL)
    if not request or len(request) < int.from_bytes(size):
        os._exit(0)  # the client runs its job by itself
    _take_place(json.loads(request), streams)
    attendant = os.getpid()
    job = os.fork()
    if job == 0:
        connection.close()
        os.setpgid(0, 0)
        _end_with(attendant)
        return
    with suppress(OSError):  # the job may have done so, and have ended
        os.setpgid(job, job)
    threading.Thread(target=_pass_on, args=(connection, job), daemon=True).start()
    _, status = os.waitpid(job, 0)
    with suppress(OSError):
        connection.sendall(b"%d\n" % os.waitstatus_to_exitcode(status))
    os._exit(0)


def _take_place(request: dict, streams: list[int]) -> None:
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(request["folder"])
    os.umask(request["umask"])
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.argv[:] = request["arguments"]
    sys.path[:] = request["import_path"]


def _pass_on(connection: socket.socket, job: int) -> None:
    """Send the client's signals to the job's process group, and kill it when the client is gone."""
    with suppress(OSError):
        while number := connection.recv(1):
            os.killpg(job, number[0])
    with suppress(OSError):
        os.killpg(job, signal.SIGKILL)


def _end_with(parent: int) -> None:
    """Let the kernel kill this process when its parent ends."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def run_job() -> NoReturn:
    """Run the stage and end as Python does, but without taking all modules apart (0.3 s)."""
    try:
        from coto.cli import main

        status = main()
    except SystemExit as end:  # of argparse
        status = int(end.code or 0)
    except BaseException as error:
        traceback.print_exc()
        status = 128 + signal.SIGINT if isinstance(error, KeyboardInterrupt) else 1
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    preload(sys.argv[2:])
    serve(socket.socket(fileno=int(sys.argv[1])))
    run_job()
