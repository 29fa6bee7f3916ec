"""A job that is handed to the server ends, prints and dies like one that runs by itself."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import venv
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from coto.job_server import PRELOADED, VARIABLE, identity
from coto.reproduce import serving

ROOT = Path(__file__).resolve().parents[1]
# A job says what its process is.
WHERE = "import sys; print(sys.modules['__main__'].__spec__.name)"
SETTINGS = '{"task": "movies", "entry": {}, "rows": {}}'
ALONE, SERVED = "coto.__main__\n", "coto.job_server\n"
FOREVER = "import time; print('begun', flush=True); time.sleep(100)"


def start(folder: Path, code: str, server: str, *more: str, **options) -> subprocess.Popen:
    """Begin a job that runs some code, in the place of the first library that it imports."""
    (folder / "pandas.py").write_text(code)
    options = {"env": {}, "cwd": folder, "interpreter": sys.executable, **options}
    path = os.pathsep.join([str(folder), str(options.pop("package", ROOT))])
    options["env"] = {**os.environ, "PYTHONPATH": path, VARIABLE: server, **options["env"]}
    job = ["prepare", "--settings", SETTINGS, "--outputs", "out", *more]
    command = [options.pop("interpreter"), "-m", "coto", *job]
    streams = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    return subprocess.Popen(command, text=True, **streams, **options)


def run(*arguments, **options) -> tuple[int, str, str]:
    """Exit status and both streams of a job."""
    process = start(*arguments, **options)
    out, err = process.communicate("typed", timeout=60)
    return process.returncode, out, err


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[str]:
    """A server that imports nothing."""
    with serving(tmp_path_factory.mktemp("server") / "log", ()) as found:
        yield found[VARIABLE]


@pytest.fixture(scope="module")
def torch_server(tmp_path_factory) -> Iterator[str]:
    """A server that imports torch."""
    with serving(tmp_path_factory.mktemp("server") / "log", ["torch"]) as found:
        yield found[VARIABLE]


@pytest.fixture
def own_server(tmp_path) -> Iterator[tuple[str, psutil.Process]]:
    """A server that a test may kill."""
    before = set(psutil.Process().children())
    with serving(tmp_path / "log", ()) as found:
        (process,) = set(psutil.Process().children()) - before
        yield found[VARIABLE], process


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def gone(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def begun(client: subprocess.Popen, server: psutil.Process) -> tuple[psutil.Process, ...]:
    """The attendant and the job of the server's only client."""
    assert client.stdout.readline() == "begun\n"
    (attendant,) = server.children()
    (job,) = attendant.children()
    return attendant, job


ENDS = {
    "both streams": "import sys; print('out'); print('err', file=sys.stderr); sys.exit(3)",
    "no status": "raise SystemExit",
    "exit functions": "import atexit; atexit.register(print, 'bye'); raise SystemExit",
    "an interrupt": "raise KeyboardInterrupt",
    "a stage that fails": "DataFrame = object",
    "input, place and mask": """
import os, sys
print(input(), os.getcwd(), sys.argv, sys.path, sorted(os.environ.items()))
print(oct(os.umask(0)), file=sys.stderr)
sys.exit(0)
""",
}


@pytest.mark.parametrize("code", ENDS.values(), ids=ENDS)
def test_a_served_job_is_like_one_alone(code: str, server: str, tmp_path: Path):
    options = {"env": {"MARK": "ü\udcff"}, "umask": 0o027}
    arguments = ("--log", "logs/log")
    alone = run(tmp_path, code, "/nowhere/jobs", *arguments, **options)
    log = (tmp_path / "logs/log").read_text()
    served = run(tmp_path, code, server, *arguments, **options)

    def told(text: str) -> list[str]:
        """Without what has to differ: the time and the server."""
        lines = text.replace("/nowhere/jobs", server).splitlines()
        return [line.partition(" ")[2] if line[2:3] == ":" else line for line in lines]

    if "KeyboardInterrupt" in code:
        assert (alone[0], served[0]) == (-signal.SIGINT, 128 + signal.SIGINT)
        assert told(alone[2])[-1] == told(served[2])[-1] == "KeyboardInterrupt"
    else:
        assert alone[0] == served[0]
        assert told(alone[1]) == told(served[1])
        assert told(alone[2]) == told(served[2])
    assert told(log) == told((tmp_path / "logs/log").read_text())


def test_a_wrong_argument_is_told_by_the_server(server: str, tmp_path: Path):
    code, out, err = run(tmp_path, "", server, "--thread", "many")
    assert (code, out) == (2, "")
    assert err.endswith("error: argument --threads: invalid int value: 'many'\n")
    assert "Traceback" not in err


@contextmanager
def inherited(number: int, action: signal.Handlers) -> Iterator[None]:
    """Processes begun in this block ignore a signal, or do not (these tests may run by nohup)."""
    before = signal.signal(number, action)
    try:
        yield
    finally:
        signal.signal(number, before)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_to_the_client_reaches_the_job(number: int, own_server, tmp_path: Path):
    with inherited(number, signal.SIG_DFL):
        client = start(tmp_path, FOREVER, own_server[0])
    _, job = begun(client, own_server[1])
    client.send_signal(number)
    client.communicate(timeout=20)
    assert client.returncode == 128 + number
    assert gone(job)


IGNORED = """
import os, signal, sys
from pathlib import Path
status = Path("/proc/self/status").read_text()
print(*(line for line in status.splitlines() if line.startswith("SigIgn")))
print("begun", flush=True)
input()
sys.exit(5)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
@pytest.mark.parametrize("ignored", [signal.SIG_IGN, signal.SIG_DFL])
def test_signals_that_the_client_ignores_stay_ignored(
    number: int, ignored: signal.Handlers, tmp_path: Path
):
    other = signal.SIG_IGN if ignored is signal.SIG_DFL else signal.SIG_DFL
    with inherited(number, other), serving(tmp_path / "log", ()) as found:
        with inherited(number, ignored):
            clients = [start(tmp_path, IGNORED, path) for path in (found[VARIABLE], "/nowhere")]
        masks = [client.stdout.readline() for client in clients]
        assert masks[0] == masks[1]  # as if the job ran by itself
        assert int(masks[0].split()[1], 16) >> (number - 1) & 1 == (ignored is signal.SIG_IGN)
        for client in clients:
            assert client.stdout.readline() == "begun\n"
            if ignored is signal.SIG_IGN:
                client.send_signal(number)
                client.communicate("\n", timeout=20)
                assert client.returncode == 5
            else:
                client.kill()
                client.wait()


def test_a_job_that_is_killed_tells_by_its_status(own_server, tmp_path: Path):
    client = start(tmp_path, FOREVER, own_server[0])
    _, job = begun(client, own_server[1])
    job.kill()
    assert client.wait(20) == 128 + signal.SIGKILL


def test_a_job_and_what_it_started_die_with_the_client(own_server, tmp_path: Path):
    code = f"import subprocess; subprocess.Popen(['sleep', '100']); {FOREVER}"
    client = start(tmp_path, code, own_server[0])
    attendant, job = begun(client, own_server[1])
    (child,) = job.children()
    client.kill()
    until(lambda: gone(job) and gone(child) and gone(attendant))


def test_a_job_dies_with_its_attendant(own_server, tmp_path: Path):
    client = start(tmp_path, FOREVER, own_server[0])
    attendant, job = begun(client, own_server[1])
    attendant.kill()
    assert client.wait(20) == 1
    assert client.stderr.read() == "the job server lost this job\n"
    until(lambda: gone(job))


def test_without_its_server_a_job_ends_and_the_next_runs_alone(own_server, tmp_path: Path):
    path, server = own_server
    client = start(tmp_path, f"print('begun', flush=True); input(); {WHERE}; sys.exit(7)", path)
    begun(client, server)
    server.kill()
    until(lambda: gone(server))
    assert client.communicate("\n", timeout=20)[0] == SERVED
    assert client.returncode == 7
    assert run(tmp_path, f"{WHERE}; sys.exit(7)", path)[:2] == (7, ALONE)


def test_a_server_that_never_gets_ready_is_not_used(monkeypatch, tmp_path: Path):
    # It ends in the import, with the client waiting.
    (tmp_path / "ends.py").write_text("import time; time.sleep(1); raise SystemExit")
    monkeypatch.chdir(tmp_path)
    with serving(tmp_path / "log", ["ends"]) as found:
        assert run(tmp_path, f"{WHERE}; sys.exit(0)", found[VARIABLE])[:2] == (0, ALONE)


def test_a_process_with_threads_forks_nothing(monkeypatch, tmp_path: Path):
    (tmp_path / "spins.py").write_text(
        "import threading, time; threading.Thread(target=time.sleep, args=[5], daemon=True).start()"
    )
    monkeypatch.chdir(tmp_path)
    with serving(tmp_path / "log", ["spins"]) as found:
        assert run(tmp_path, f"{WHERE}; sys.exit(0)", found[VARIABLE])[:2] == (0, ALONE)
    assert "2 threads" in (tmp_path / "log").read_text()


def test_another_interpreter_runs_its_job_itself(server: str, tmp_path: Path):
    venv.create(tmp_path / "other", symlinks=True)
    interpreter = tmp_path / "other/bin/python"
    packages = os.pathsep.join([str(ROOT), str(Path(psutil.__file__).parents[1])])
    options = {"interpreter": interpreter, "package": packages}
    found = run(tmp_path, f"{WHERE}; sys.exit(0)", server, **options)
    assert found[:2] == (0, ALONE)


def test_another_checkout_runs_its_job_itself(server: str, tmp_path: Path):
    data = shutil.ignore_patterns("__pycache__", "*.safetensors")
    shutil.copytree(ROOT / "coto", tmp_path / "other" / "coto", ignore=data)
    found = run(tmp_path, f"{WHERE}; sys.exit(0)", server, package=tmp_path / "other")
    assert found[:2] == (0, ALONE)


def test_a_request_that_is_too_long_for_one_message_runs_alone(server: str, tmp_path: Path):
    long = {f"LONG{number}": "x" * 100_000 for number in range(12)}
    assert run(tmp_path, f"{WHERE}; sys.exit(0)", server, env=long)[:2] == (0, ALONE)


def test_the_server_ends_with_the_process_that_started_it(tmp_path: Path):
    code = """
import sys, time
from pathlib import Path
from coto.reproduce import serving
with serving(Path("log"), ()) as found:
    print(*found.values(), flush=True)
    time.sleep(100)
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code]
    process = subprocess.Popen(
        command, env=environment, cwd=tmp_path, stdout=subprocess.PIPE, text=True
    )
    path = process.stdout.readline().strip()
    (server,) = psutil.Process(process.pid).children()
    process.kill()
    process.wait()
    until(lambda: gone(server) and not Path(path).parent.exists())


@pytest.mark.parametrize("threads", [1, 2])
def test_a_job_gets_its_threads_though_torch_has_begun_with_one(torch_server, threads, tmp_path):
    code = f"{WHERE}; print(sys.modules['torch'].get_num_threads()); sys.exit(0)"
    done = run(tmp_path, code, torch_server, "--threads", str(threads))
    assert done == (0, f"{SERVED}{threads}\n", "")


def test_everything_can_be_preloaded_without_starting_threads(tmp_path: Path):
    client = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with serving(tmp_path / "log") as found, client:
        client.connect(found[VARIABLE])
        assert json.loads(client.recv(10_000)) == identity()
    said = (tmp_path / "log").read_text()
    assert not [module for module in PRELOADED if f"{module}: " in said]
