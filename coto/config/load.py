"""Read and check a configuration: every problem is one line with key, value and expectation."""

import difflib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from coto.cli import STAGES
from coto.config.definitions import BUILT_IN
from coto.config.families import FAMILIES
from coto.config.models import Config
from coto.config.plan import Plan
from coto.config.suites import LENGTHS, Suite
from coto.errors import CotoError
from coto.operators.registry import OPERATORS
from coto.tasks.mirror import mirror_files
from coto.tasks.registry import TASKS

SOURCES = ("package", "wheel", "timm", "hub", "path")
# Targets of single tables and figures begin so: no suite's or study's name may.
_FREE = "(?!table_|figure_)"
# Names of folders and targets that no suite may take.
RESERVED = (
    *("report", "reference", "studies", "backbones", "logs", "benchmarks", "all"),
    *STAGES,
)


class ConfigError(CotoError):
    """The configuration cannot be used; one problem per line."""


def load(*files: Path) -> Config:
    """Read YAML files, later ones over earlier ones, and check the result."""
    raw: dict[str, Any] = {}
    for file in files:
        try:
            layer = yaml.safe_load(file.read_text())
        except OSError as error:
            raise ConfigError(f"config file {str(file)!r}: {error.strerror}") from None
        except yaml.YAMLError as error:
            raise ConfigError(
                f"config file {str(file)!r}: {' '.join(str(error).split())}"
            ) from None
        if layer is not None and not isinstance(layer, dict):
            raise ConfigError(f"config file {str(file)!r}: expected a mapping at the top level")
        raw = overlay(raw, layer or {})
    return validate(raw)


def overlay(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Merge mappings recursively; everything else in `over` replaces what `base` has."""
    merged = dict(base)
    for key, value in over.items():
        if isinstance(value, Mapping) and isinstance(merged.get(key), Mapping):
            merged[key] = overlay(merged[key], value)
        else:
            merged[key] = value
    return merged


def validate(raw: Mapping[str, Any]) -> Config:
    """Turn a raw mapping into a :class:`Config`.

    Raises:
        ConfigError: with one line per problem.
    """
    complete = overlay(BUILT_IN, raw)
    for table in ("suites", "studies"):
        if isinstance(complete.get(table), Mapping):
            # How an overlay takes out what the file below it has.
            complete[table] = {k: v for k, v in complete[table].items() if v is not None}
    try:
        # JSON is the strict mode that still reads a list as a tuple.
        config = Config.model_validate_json(json.dumps(complete, default=str))
    except ValidationError as error:
        lines = dict.fromkeys(_line(detail) for detail in error.errors())
        raise ConfigError("\n".join(lines)) from None
    problems = list(dict.fromkeys(_problems(config)))
    if problems:
        raise ConfigError("\n".join(problems))
    return config


def _line(error: ErrorDetails) -> str:
    key = _key(error["loc"])
    value = error["input"]
    if error["type"] == "extra_forbidden":
        known = _fields_at(error["loc"][:-1])
        return f"{key}: unknown key; {_expected_one_of(str(error['loc'][-1]), known)}"
    if error["type"] == "missing":
        return f"{key}: missing, expected a value: it has no default"
    expected = error["msg"].removeprefix("Input should be ").removeprefix("a ")
    line = f"{key} = {json.dumps(value, default=str)}: expected {expected}"
    if isinstance(value, str) and re.fullmatch(r"[-+]?\d+(\.\d*)?([eE][-+]?\d+)?", value):
        line += f"; YAML reads this as text, write {float(value)!r} with a dot (1.0e-4, not 1e-4)"
    return line


def _key(location: Sequence[int | str]) -> str:
    key = ""
    for part in location:
        key += f"[{part}]" if isinstance(part, int) else f".{part}" if key else str(part)
    return key


def _fields_at(location: Sequence[int | str]) -> list[str]:
    """The keys that the model at `location` knows."""
    at: Any = Config
    for part in location:
        if _is_model(at):
            at = at.model_fields[str(part)].annotation
        elif get_origin(at) is dict:
            at = get_args(at)[1]
        if not _is_model(at) and get_origin(at) is not dict:  # such as Merge | None
            at = next((choice for choice in get_args(at) if _is_model(choice)), at)
    return list(at.model_fields) if _is_model(at) else []


def _is_model(candidate: Any) -> bool:
    return isinstance(candidate, type) and issubclass(candidate, BaseModel)


def _expected_one_of(value: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(value, known, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"{hint}expected one of {', '.join(sorted(known))}"


def _problems(config: Config) -> Iterator[str]:
    """What single fields cannot see: names that must exist, values that must agree."""
    mirror = config.data.mirror
    if mirror is not None and not Path(mirror).expanduser().is_dir():
        yield f"data.mirror = {mirror!r}: expected an existing directory laid out as the hub"
    for name, backbone in config.backbones.items():
        sources = [source for source in SOURCES if getattr(backbone, source) is not None]
        if len(sources) != 1:
            yield (
                f"backbones.{name} = {', '.join(sources) or 'no source'}: "
                f"expected exactly one of {', '.join(SOURCES)}"
            )
        if not re.fullmatch(r"[a-z0-9_.-]+", name):
            yield f"backbones.{name}: expected a name of a-z, 0-9, _, . and -"
    for name in config.adapters:
        if not re.fullmatch(r"[a-z0-9_]+", name):
            yield f"adapters.{name}: expected a name of a-z, 0-9 and _: paths are made of it"
    for name, strategy in config.strategies.items():
        if not re.fullmatch(r"[a-z0-9-]+", name):
            yield f"strategies.{name}: expected a name of a-z, 0-9 and -: paths are made of it"
        if strategy.p0 > strategy.p1:
            yield f"strategies.{name}.p0 = {strategy.p0}: expected at most p1 = {strategy.p1}"
    sound = set()
    for name, suite in config.suites.items():
        if not re.fullmatch(rf"{_FREE}[a-z0-9_-]+", name) or name in RESERVED:
            yield (
                f"suites.{name}: expected a name of a-z, 0-9, _ and -, without table_ or figure_ "
                "at its beginning, other than " + ", ".join(RESERVED)
            )
        problems = list(_suite_problems(f"suites.{name}", suite, config))
        yield from problems
        if not problems:
            sound.add(name)
    for name, study in config.studies.items():
        if not re.fullmatch(rf"{_FREE}[a-z0-9_]+", name) or name in (*RESERVED, *config.suites):
            yield (
                f"studies.{name}: expected a name of a-z, 0-9 and _, without table_ or figure_ "
                "at its beginning, other than " + ", ".join((*RESERVED, *config.suites))
            )
        elif study.suite not in config.suites:
            expected = _expected_one_of(study.suite, list(config.suites))
            yield f"studies.{name}.suite = {study.suite!r}: {expected}"
        elif study.suite in sound:  # else it would only tell its suite's problems again
            # All suites of a study have the same names; what differs is a learning rate.
            suite = next(iter(Plan(config).study(name).values()))
            yield from _suite_problems(f"studies.{name}", suite, config)


def _suite_problems(at: str, suite: Suite, config: Config) -> Iterator[str]:
    axes = {
        "tasks": (suite.tasks, list(TASKS)),
        "adapters": (suite.adapters, list(config.adapters)),
        "strategies": (suite.strategies, list(config.strategies)),
    }
    for axis, (values, known) in axes.items():
        for index, value in enumerate(values):
            if value not in known:
                yield f"{at}.{axis}[{index}] = {value!r}: {_expected_one_of(value, known)}"
    sets = [name for task in suite.tasks if task in TASKS for name in TASKS[task].sets or (task,)]
    if len(set(sets)) < len(sets):
        twice = next(name for name in sets if sets.count(name) > 1)
        yield f"{at}.tasks = {list(suite.tasks)}: expected {twice!r} to be scored by one task only"
    for axis in (*axes, "seeds"):
        values = getattr(suite, axis)
        if len(set(values)) < len(values):
            yield f"{at}.{axis} = {list(values)}: expected no value twice"
    if suite.backbone not in config.backbones:
        expected = _expected_one_of(suite.backbone, list(config.backbones))
        yield f"{at}.backbone = {suite.backbone!r}: {expected}"
    else:
        yield from _fit_problems(at, suite, config)
    yield from _mirror_problems(suite, config)
    yield from _learning_rate_problems(at, suite, config)
    for name in suite.adapter_settings:
        if name not in config.adapters:
            expected = _expected_one_of(name, list(config.adapters))
            yield f"{at}.adapter_settings.{name}: unknown adapter; {expected}"
    lengths = {name: getattr(suite.train, name) for name in LENGTHS}
    if sum(value is not None for value in lengths.values()) != 1:
        said = ", ".join(f"{name} = {value}" for name, value in lengths.items())
        yield f"{at}.train: {said}: expected exactly one of them"
    shots = suite.rows.shots
    if lengths["steps_per_shot"] is not None and shots is None:
        yield f"{at}.rows.shots = null: expected a number, train.steps_per_shot counts in it"
    if suite.train.batch_size % suite.train.accumulation:
        yield (
            f"{at}.train.accumulation = {suite.train.accumulation}: expected a divisor of "
            f"batch_size = {suite.train.batch_size}"
        )
    for task in suite.train.per_task:
        if task not in suite.tasks:
            expected = _expected_one_of(task, suite.tasks)
            yield f"{at}.train.per_task.{task}: unknown task; {expected}"
    yield from _operator_problems(at, suite)
    if suite.overhead and suite.overhead.task not in (None, *suite.tasks):
        expected = _expected_one_of(str(suite.overhead.task), suite.tasks)
        yield f"{at}.overhead.task = {suite.overhead.task!r}: {expected}"


def _operator_problems(at: str, suite: Suite) -> Iterator[str]:
    """Settings of merging, pruning and the analyses that single fields cannot see."""
    for name, settings in suite.merging.settings.items():
        try:
            OPERATORS[name].resolved(settings)
        except CotoError as error:
            yield f"{at}.merging.settings.{name}: {error}"
    weights = suite.merge.weights if suite.merge else None
    if weights is not None and set(weights) != set(suite.tasks):
        expected = f"expected one weight for each of {', '.join(suite.tasks)}"
        yield f"{at}.merge.weights = {weights}: {expected}"
    sparse = suite.prune.unstructured if suite.prune else None
    if sparse is not None and list(sparse.sparsities) != sorted(set(sparse.sparsities)):
        yield (
            f"{at}.prune.unstructured.sparsities = {list(sparse.sparsities)}: "
            "expected different values in ascending order"
        )
    for part, axis in (("subnetworks", "tasks"), ("subnetworks", "seeds"), ("geometry", "tasks")):
        chosen = getattr(getattr(suite, part), axis, None) or ()
        known = getattr(suite, axis)
        for index, value in enumerate(chosen):
            if value not in known:
                expected = _expected_one_of(str(value), [str(name) for name in known])
                yield f"{at}.{part}.{axis}[{index}] = {value!r}: {expected}"


def _fit_problems(at: str, suite: Suite, config: Config) -> Iterator[str]:
    """What the backbone cannot do."""
    backbone = config.backbones[suite.backbone]
    kind, projections = FAMILIES[backbone.family].kind, backbone.names
    for index, task in enumerate(suite.tasks):
        if task in TASKS and TASKS[task].kind != kind:
            yield (
                f"{at}.tasks[{index}] = {task!r}: a task of {TASKS[task].kind}, expected one of "
                f"{kind}: backbone {suite.backbone!r} is of family {backbone.family!r}"
            )
    for name in suite.adapters:
        own = name in suite.adapter_settings
        if not own and name not in config.adapters:
            continue
        adapter = suite.adapter_settings[name] if own else config.adapters[name]
        key = f"{at}.adapter_settings.{name}" if own else f"adapters.{name}"
        if backbone.width is not None and adapter.rank > backbone.width:
            yield (
                f"{key}.rank = {adapter.rank}: expected at most {backbone.width}, "
                f"the width of {suite.backbone}'s layers"
            )
        for target in adapter.targets:
            if target not in projections:
                yield (
                    f"{key}.targets: {target!r} has no name in backbone "
                    f"{suite.backbone!r}; expected one of {', '.join(projections)}, or its name in "
                    f"backbones.{suite.backbone}.projections"
                )


def _mirror_problems(suite: Suite, config: Config) -> Iterator[str]:
    """Rows that the mirror should have and has not."""
    mirror = Path(config.data.mirror).expanduser() if config.data.mirror else None
    if mirror is None or not mirror.is_dir():
        return
    for name in suite.tasks:
        if name in TASKS and TASKS[name].source == "hub":
            try:
                mirror_files(TASKS[name], mirror)
            except CotoError as error:
                yield str(error)


def _learning_rate_problems(at: str, suite: Suite, config: Config) -> Iterator[str]:
    # Any defined arm may have a grid: an overlay that leaves an adapter out cannot remove its grid.
    known = [*config.adapters, *(f"{a}-{s}" for a in config.adapters for s in config.strategies)]
    for key, grid in suite.learning_rates.items():
        if key not in known:
            expected = _expected_one_of(key, known)
            yield f"{at}.learning_rates.{key}: unknown adapter or arm; {expected}"
        if not grid or len(set(grid)) < len(grid):
            yield f"{at}.learning_rates.{key} = {list(grid)}: expected one or more different values"
    for adapter in suite.adapters:
        if adapter not in suite.learning_rates and not all(
            f"{adapter}-{s}" in suite.learning_rates for s in suite.strategies
        ):
            yield f"{at}.learning_rates.{adapter}: missing; every adapter needs a grid"
    for index, seed in enumerate(suite.selection_seeds or ()):
        if seed not in suite.seeds:
            yield (
                f"{at}.selection_seeds[{index}] = {seed}: expected one of seeds = "
                f"{list(suite.seeds)}"
            )
