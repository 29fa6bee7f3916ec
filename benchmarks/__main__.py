"""``python -m benchmarks NAME …``: run benchmarks, write their records, table and figure.

``python -m benchmarks`` alone lists them; ``all`` stands for those that need no GPU and no results
of other runs. ``show`` only makes table and figure anew from the records of a folder; ``keep``
makes them the records that docs/performance.md quotes.
"""

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

import torch
from pydantic import ValidationError

import benchmarks
from benchmarks.common import harness, show
from benchmarks.common.harness import BENCHMARKS, ROUNDS, Bench, Benchmark
from coto import device
from coto.errors import CotoError

for _module in iter_modules(benchmarks.__path__):
    if _module.name not in ("__main__", "common"):
        import_module(f"benchmarks.{_module.name}")

log = logging.getLogger("benchmarks")
FOLDER = Path("results/benchmarks")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what is named; a problem with the input is one line and exit code 2."""
    args = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    try:
        if not args.names:
            print("\n".join(f"{one.name:16} {one.summary}" for one in BENCHMARKS.values()))
            return 0
        chosen = [name for name in args.names if name not in ("show", "keep")]
        if chosen == ["all"]:
            chosen = [one.name for one in BENCHMARKS.values() if one.by_itself]
        torch.set_num_threads(args.threads)
        for benchmark in [BENCHMARKS[name] for name in chosen]:
            run(benchmark, args)
        if "keep" in args.names:
            show.keep(args.folder)
        show.write(args.folder)
    except CotoError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def run(benchmark: Benchmark[Any], args: argparse.Namespace) -> Path:
    """Run one benchmark and write its record; returns its path."""
    settings = settings_of(benchmark, args.set, quick=args.quick)
    compute = device.resolve(args.device, args.precision or benchmark.precision)
    bench = Bench(settings, compute, args.rounds, args.folder)
    if args.rounds < ROUNDS and not args.quick:
        expected = f"expected {ROUNDS} or more, or --quick"
        raise CotoError(f"--rounds = {args.rounds}: {expected}")
    log.info("%s: %s", benchmark.name, benchmark.summary)
    rows = benchmark.run(bench)
    words = ["python -m benchmarks", benchmark.name, *(["--quick"] if args.quick else [])]
    words += [f"--set {entry}" for entry in args.set]
    path = harness.write(bench, benchmark, rows, command=" ".join(words), quick=args.quick)
    log.info("%s: %s", benchmark.name, path)
    return path


def settings_of(benchmark: Benchmark[Any], changes: Sequence[str], *, quick: bool) -> Any:
    """A benchmark's settings, reduced or not, with changes of the form ``key=JSON``."""
    given: dict[str, Any] = json.loads(json.dumps(dict(benchmark.quick))) if quick else {}
    for change in changes:
        key, _, value = change.partition("=")
        try:
            given[key] = json.loads(value)
        except ValueError:
            given[key] = value
    try:
        return benchmark.settings.model_validate_json(json.dumps(given))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise CotoError(f"{benchmark.name}: {key} = {first['input']!r}: {first['msg']}") from None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", help="benchmarks, all, show or keep")
    parser.add_argument("--quick", action="store_true", help="reduced sizes: minutes, not an hour")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="repetitions (default: 7)")
    parser.add_argument("--threads", type=int, default=1, help="default: 1")
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    parser.add_argument("--precision", choices=("auto", "fp32", "bf16", "fp16"))
    parser.add_argument("--folder", type=Path, default=FOLDER, help=f"default: {FOLDER}")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=JSON", help="another setting"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
