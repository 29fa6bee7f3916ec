"""``python -m coto NAME``: what the rules call; usable by hand as well.

Every job takes its settings as one JSON string, the results folder, and the paths of what it
writes. Heavy imports happen inside the job, so that a wrong argument is reported at once. Plugins
are the files that the environment variable ``COTO_PLUGINS`` names.
"""

import argparse
import glob
import itertools
import logging
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from coto.errors import CotoError

log = logging.getLogger(__name__)

TOOLS = {
    "compare": ("coto.workflow.compare", "compare A B: two results folders, number by number"),
    "plan": ("coto.workflow.forecast", "plan: what would run, why, and what it takes"),
    "verdicts": ("coto.findings.outcome.words", "verdicts [RESULTS]: all of them on one screen"),
    "verify": ("coto.workflow.verify", "verify [RESULTS]: does every file hold what records say?"),
}
"""What is no job: the module whose ``main`` does it, and what it is."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one job or tool; a problem with the input is one line and exit code 2."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    try:
        if arguments and arguments[0] in TOOLS:
            module, _ = TOOLS[arguments[0]]
            return int(import_module(module).main(arguments[1:]))
        return _run(arguments)
    except CotoError as error:
        print(error, file=sys.stderr)
        return 2


def environment(threads: int) -> dict[str, str]:
    """The environment that libraries are to find when they are imported."""
    ours = {"TOKENIZERS_PARALLELISM": "false", "HF_HUB_DISABLE_TELEMETRY": "1"}
    return ours | os.environ | dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))


def _run(arguments: Sequence[str]) -> int:
    from pydantic import ValidationError

    from coto.findings.jobs import REPORTS
    from coto.measurements import MEASUREMENTS
    from coto.measurements.base import Job
    from coto.registry import load_plugins

    load_plugins(filter(None, os.environ.get("COTO_PLUGINS", "").split(os.pathsep)))
    commands = {**MEASUREMENTS, **REPORTS}
    args = _parser(commands).parse_args(arguments)
    command = commands[args.name]
    _set_threads(args.threads)
    try:
        settings = command.settings.model_validate_json(args.settings)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise CotoError(f"{args.name}: settings: {key}: {first['msg']}") from None
    refused = _begin_attempt(args.log, args.attempt)
    _start_log(args.log, settings)
    outputs = dict(zip(command.outputs, args.outputs, strict=False))
    try:
        if refused is not None and refused.exists():
            raise CotoError(f"not tried again: {refused.read_text().strip()}")
        command.run(Job(settings, args.root, outputs, args.threads, args.code))
    except CotoError as error:
        log.error("%s", error)
        if refused is not None and not refused.exists():
            refused.write_text(f"{error}\n")
        return 2
    except Exception:
        log.exception("%s failed", args.name)
        return 1
    return 0


def _parser(commands: dict[str, Any]) -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="python -m coto",
        description=__doc__.splitlines()[0],
        epilog="Also: " + "; ".join(what for _, what in TOOLS.values()),
    )
    names = top.add_subparsers(dest="name", required=True, metavar="name")
    for name, command in commands.items():
        sub = names.add_parser(name, help=command.summary, description=command.run.__doc__)
        sub.add_argument("--settings", required=True, help="JSON of what it reads")
        sub.add_argument("--root", type=Path, default=Path("results"), help="results folder")
        sub.add_argument("--threads", type=int, default=1, help="CPU threads")
        sub.add_argument("--code", default="", help="fingerprint of the job's code")
        sub.add_argument("--log", type=Path, help="file that gets the whole log")
        sub.add_argument("--attempt", type=int, default=1, help="of the workflow at this job")
        paths = " ".join(command.outputs.values())
        sub.add_argument("--outputs", type=Path, nargs="+", required=True, help=f"as {paths}")
    return top


def _set_threads(threads: int) -> None:
    os.environ.update(environment(threads))
    if "torch" in sys.modules:  # by the job server, with one thread
        import torch

        torch.set_num_threads(threads)


def _begin_attempt(log_file: Path | None, attempt: int) -> Path | None:
    """Put the logs of earlier attempts aside; where this is the first one, remove them.

    Returns:
        A file beside the log which is there if an earlier attempt was refused its input: another
        attempt would be, too.
    """
    if log_file is None:
        return None
    refused = log_file.with_suffix(".refused")
    # SLURM restarts a job that was preempted, or whose node was lost, by itself.
    if attempt == 1 and not int(os.environ.get("SLURM_RESTART_COUNT") or 0):
        for old in (refused, *log_file.parent.glob(f"{glob.escape(log_file.stem)}.attempt*.log")):
            old.unlink(missing_ok=True)
    elif log_file.exists():
        names = (log_file.with_suffix(f".attempt{n}.log") for n in itertools.count(1))
        log_file.rename(next(name for name in names if not name.exists()))
    return refused


def _start_log(file: Path | None, settings: Any) -> None:
    """Everything to the file; to the terminal our own lines, marked with the job they come from."""
    parts = [
        str(value)
        for name in ("suite", "task", "adapter", "strategy", "seed", "table", "figure", "study")
        if (value := getattr(settings, name, None)) is not None
    ]
    label = "/".join(parts).replace("%", "%%")
    terminal = logging.StreamHandler(sys.stderr)
    terminal.addFilter(logging.Filter("coto"))
    handlers: list[logging.Handler] = [terminal]
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        handlers.append(logging.FileHandler(file, mode="w"))
    logging.basicConfig(
        level=logging.WARNING,
        format=f"%(asctime)s {label + ': ' if label else ''}%(message)s",
        datefmt="%H:%M:%S",
        handlers=handlers,
    )
    logging.getLogger("coto").setLevel(logging.INFO)
    logging.captureWarnings(True)
