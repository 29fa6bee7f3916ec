"""``python -m coto <stage>``: what the rules call; usable by hand as well.

Every stage takes its settings as one JSON string, the results folder, and the paths of what it
writes. Heavy imports happen inside the stage, so that a wrong argument is told at once.
"""

import argparse
import json
import logging
import os
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from coto import compat
from coto.errors import CotoError

# Stage -> paths that it takes besides its settings. A name with a question mark may be left out.
STAGES: dict[str, tuple[str, ...]] = {
    "corpora": ("out",),
    "prepare": ("train", "validation", "test", "corpora?"),
    "convert": ("out",),
    "baseline": ("out",),
    "train": ("adapter", "answers", "gradients", "out"),
    "select": ("out",),
    "prune": ("out",),
    "interpolate": ("out",),
    "merge": ("out",),
    "subnetworks": ("out",),
    "geometry": ("out",),
    "trajectory": ("out",),
    "overhead": ("out",),
    "tables": ("out",),
    "figures": ("out",),
    "claims": ("out",),
    "study": ("out",),
}


def module_of(stage: str) -> str:
    """The module that does a stage's work, and whose code the stage's fingerprint is of."""
    return f"coto.stages.{stage}"


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(prog="python -m coto", description=__doc__.splitlines()[0])
    stages = top.add_subparsers(dest="stage", required=True, metavar="stage")
    for stage, paths in STAGES.items():
        sub = stages.add_parser(stage, help=f"see {module_of(stage)}")
        sub.add_argument("--settings", type=json.loads, default={}, help="JSON of what it reads")
        sub.add_argument("--root", type=Path, default=Path("results"), help="results folder")
        sub.add_argument("--threads", type=int, default=1, help="CPU threads")
        sub.add_argument("--code", default="", help="fingerprint of the stage's code")
        sub.add_argument("--log", type=Path, help="file that gets the whole log")
        for path in paths:
            name = path.removesuffix("?")
            sub.add_argument(f"--{name}", type=Path, required=not path.endswith("?"))
    return top


def environment(threads: int) -> dict[str, str]:
    """The environment that libraries are to find when they are imported."""
    ours = {"TOKENIZERS_PARALLELISM": "false", "HF_HUB_DISABLE_TELEMETRY": "1"}
    return ours | os.environ | dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one stage; a problem with the input is one line and exit code 2."""
    args = parser().parse_args(arguments)
    _set_threads(args.threads)
    _start_log(args.log, args.settings)
    compat.install()
    log = logging.getLogger(module_of(args.stage))
    from coto.stages.job import Job

    job = Job(args.settings, args.root, args.threads, args.code)
    outputs = {
        name: getattr(args, name)
        for name in (path.removesuffix("?") for path in STAGES[args.stage])
        if getattr(args, name) is not None
    }
    try:
        import_module(module_of(args.stage)).run(job, **outputs)
    except CotoError as error:
        log.error("%s", error)
        return 2
    except Exception:
        log.exception("stage %s failed", args.stage)
        return 1
    return 0


def _set_threads(threads: int) -> None:
    os.environ.update(environment(threads))
    if "torch" in sys.modules:  # by the job server, with one thread
        import torch

        torch.set_num_threads(threads)


def _start_log(file: Path | None, settings: Mapping[str, Any]) -> None:
    """Everything to the file; to the terminal our own lines, marked with the job they come from."""
    parts = [str(settings[key]) for key in ("suite", "task") if key in settings]
    if "adapter" in settings:
        parts.append("-".join(settings[k] for k in ("adapter", "strategy") if k in settings))
    parts += [f"seed{settings['seed']}"] if "seed" in settings else []
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
