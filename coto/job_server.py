"""The job server: has the libraries imported, and forks every job of a run off itself.

It imports no module of this package, so that every job runs the code as it is. Each connection has
an attendant, forked off the server: it forks the job, passes the client's signals on and reports
the job's exit status. No job outlives its client or its attendant. The server itself ends with its
standard input; jobs that run then are finished. (:mod:`multiprocessing`'s children have the
server's streams and signals.) In Snakemake's benchmark files memory and processor time are the
waiting client's; a job's peak memory, with all that is imported here, is in its record.
"""

# Every job begins with the client's side, so this imports next to nothing.
import atexit
import gc
import json
import os
import select
import signal
import socket
import sys
import threading
from collections.abc import Iterable
from contextlib import suppress
from importlib import import_module
from types import FrameType
from typing import Any, NoReturn

VARIABLE = "COTO_JOB_SERVER"
"""Environment variable: path of the job server's socket."""
# Seconds to wait for a server that still imports; after that, importing here is no slower.
PATIENCE = 60.0
LARGEST = 1 << 20  # bytes of one message

# What the stages import, at any depth, that takes more than a few milliseconds.
PRELOADED = (
    *("pandas", "torch", "transformers.trainer", "peft", "datasets", "evaluate"),
    *("lm_eval.models.huggingface", "timm", "torchvision.transforms.v2"),
    *("sklearn.linear_model", "matplotlib.figure"),
)
# On top of the jobs' own environment: a process that forks must have one thread and must not have
# asked the CUDA driver anything.
_ARROW = {"JE_ARROW_MALLOC_CONF": "background_thread:false"}
ENVIRONMENT = _ARROW | {"PYTORCH_NVML_BASED_CUDA_CHECK": "1"}
_PR_SET_PDEATHSIG = 1  # of prctl: the signal that the kernel sends when the parent ends


def identity() -> list[str]:
    """What a server shares with its clients; otherwise a job could run differently there."""
    return [sys.prefix, sys.version, __file__]


def hand_over() -> int | None:
    """Let the job server run ``sys.argv`` in this process's place; None if no server took the job.

    The job gets this process's standard streams, folder, environment, umask and import path, and
    the signals that would end it or are ignored. Should this process end first, it is killed. Its
    exit status is returned, 128 + n after signal n.
    """
    path = os.environ.get(VARIABLE)
    if path is None:
        return None
    umask = os.umask(0)
    os.umask(umask)
    ignored = [int(n) for n in signal.valid_signals() if signal.getsignal(n) is signal.SIG_IGN]
    request: dict[str, Any] = {"arguments": sys.argv, "import_path": sys.path, "umask": umask}
    folder = os.getcwd()  # noqa: PTH109
    request |= {"environment": dict(os.environ), "ignored": ignored, "folder": folder}
    message = json.dumps(request).encode()
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as server:
        try:
            server.settimeout(PATIENCE)
            server.connect(path)
            if len(message) > LARGEST or json.loads(server.recv(LARGEST)) != identity():
                return None
            socket.send_fds(server, [message], [0, 1, 2])
        except (OSError, ValueError):  # no server, or one that ended before it had the request
            return None

        def forward(number: int, frame: FrameType | None) -> None:
            with suppress(OSError):
                server.send(bytes([number]))

        for number in {signal.SIGHUP, signal.SIGINT, signal.SIGTERM}.difference(ignored):
            signal.signal(number, forward)
        server.settimeout(None)
        status = server.recv(LARGEST)
    if not status:
        print("the job server lost this job", file=sys.stderr)
        return 1
    return int(status) if int(status) >= 0 else 128 - int(status)


def preload(modules: Iterable[str]) -> None:
    """Import modules and get ready to fork; ends the process if an import started threads."""
    gc.disable()
    for module in modules:
        try:
            import_module(module)
        except Exception as error:  # the job that needs it will fail and report it
            print(f"{module}: {error}", file=sys.stderr)
    gc.freeze()  # jobs share these objects: nobody need walk through them
    gc.enable()
    threads = len(os.listdir("/proc/self/task"))  # noqa: PTH208
    if threads > 1:
        sys.exit(f"{threads} threads after the imports: a fork would not be safe")


def serve(listener: socket.socket) -> None:
    """Take jobs until standard input is closed; returns only in a job's own process."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel forgets attendants that end
    while True:
        ready, _, _ = select.select([listener, sys.stdin], [], [])
        if sys.stdin in ready:
            path = listener.getsockname()
            with suppress(OSError):  # whoever made the socket and its folder was killed
                os.unlink(path)  # noqa: PTH108
                os.rmdir(os.path.dirname(path))  # noqa: PTH106, PTH120
            sys.exit()
        connection, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            _attend(connection)
            return
        connection.close()


def _attend(connection: socket.socket) -> None:
    """Fork a client's job and be there for both; returns only in the job's process."""
    import ctypes

    connection.send(json.dumps(identity()).encode())
    message, streams, _, _ = socket.recv_fds(connection, LARGEST, 3)
    if not message:
        os._exit(0)  # the client runs its job by itself
    _take_place(request := json.loads(message), streams)
    attendant = os.getpid()
    job = os.fork()
    if job == 0:
        connection.close()
        os.setpgid(0, 0)
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != attendant:  # it ended before the kernel knew what to do then
            os._exit(1)
        _ignore_only(request["ignored"])
        return
    with suppress(OSError):  # the job may have done so, and have ended
        os.setpgid(job, job)
    threading.Thread(target=_pass_on, args=(connection, job), daemon=True).start()
    _, status = os.waitpid(job, 0)
    with suppress(OSError):
        connection.send(b"%d" % os.waitstatus_to_exitcode(status))
    os._exit(0)


def _take_place(request: dict[str, Any], streams: list[int]) -> None:
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(request["folder"])
    os.umask(request["umask"])
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.argv[:] = request["arguments"]
    sys.path[:] = request["import_path"]


def _ignore_only(ignored: list[int]) -> None:
    """Ignore these signals and no others, whatever the server was started with."""
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        if number in ignored:
            signal.signal(number, signal.SIG_IGN)
        elif signal.getsignal(number) is signal.SIG_IGN:
            interrupt = number == signal.SIGINT
            signal.signal(number, signal.default_int_handler if interrupt else signal.SIG_DFL)


def _pass_on(connection: socket.socket, job: int) -> None:
    """Send the client's signals to the job's process group, and kill it when the client is gone."""
    with suppress(OSError):
        while number := connection.recv(1):
            os.killpg(job, number[0])
    with suppress(OSError):
        os.killpg(job, signal.SIGKILL)


def run_job() -> NoReturn:
    """Run the stage and end as Python does, but without taking all modules apart (0.3 s)."""
    try:
        from coto.cli import main

        status = main()
    except SystemExit as end:  # of argparse
        status = int(end.code or 0)
    except BaseException as error:
        sys.excepthook(*sys.exc_info())
        status = 128 + signal.SIGINT if isinstance(error, KeyboardInterrupt) else 1
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    preload(sys.argv[2:])
    serve(socket.socket(fileno=int(sys.argv[1])))
    run_job()
