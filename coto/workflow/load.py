"""Read and check a configuration: every problem is one line with key, value and expectation."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, cast, get_args, get_origin

import yaml
from pydantic import BaseModel, Field, ValidationError, create_model
from pydantic_core import ErrorDetails

from coto.config.built_in import built_in
from coto.config.models import Config, Suite
from coto.config.plan import Plan
from coto.errors import CotoError
from coto.findings.jobs import REPORTS
from coto.measurements import MEASUREMENTS
from coto.measurements.base import unknown_values
from coto.models.settings import FAMILIES, LENGTHS
from coto.registry import PLUGINS, expected_one_of, load_plugins
from coto.tasks.hub import mirror_files
from coto.tasks.registry import TASKS
from coto.workflow import studies

SOURCES = ("package", "wheel", "timm", "hub", "path")
# Targets of single tables and figures begin so: no suite's or study's name may.
_FREE = "(?!table_|figure_)"


class ConfigError(CotoError):
    """The configuration cannot be used; one problem per line."""


def load(*files: Path) -> Plan:
    """Read YAML files, later ones over earlier ones, and check the result."""
    raw: dict[str, Any] = {}
    for file in files:
        try:
            layer = yaml.safe_load(file.read_text())
        except OSError as error:
            raise ConfigError(f"config file {str(file)!r}: {error.strerror}") from None
        except yaml.YAMLError as error:
            message = " ".join(str(error).split())
            raise ConfigError(f"config file {str(file)!r}: {message}") from None
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


def validate(raw: Mapping[str, Any]) -> Plan:
    """Turn a raw mapping into a plan, after importing its plugins.

    Raises:
        ConfigError: with one line per problem.
    """
    plugins = raw.get("plugins") or []
    if not isinstance(plugins, list | tuple) or not all(isinstance(file, str) for file in plugins):
        raise ConfigError(f"plugins = {json.dumps(plugins, default=str)}: expected a list of files")
    try:
        load_plugins(plugins)
    except CotoError as error:
        raise ConfigError(str(error)) from None
    complete = overlay(built_in(), raw)
    for table in ("suites", "studies"):
        if isinstance(complete.get(table), Mapping):
            # How an overlay takes out what the file below it has.
            complete[table] = {k: v for k, v in complete[table].items() if v is not None}
    try:
        # JSON is the strict mode that still reads a list as a tuple.
        config = config_model().model_validate_json(json.dumps(complete, default=str))
    except ValidationError as error:
        lines = dict.fromkeys(_line(detail) for detail in error.errors())
        raise ConfigError("\n".join(lines)) from None
    problems = list(dict.fromkeys(_problems(config)))
    if problems:
        raise ConfigError("\n".join(problems))
    return studies.plan_of(config)


def config_model() -> type[Config]:
    """The configuration's model, in which a suite has the section of every known measurement."""
    return _config_model(tuple(PLUGINS))


@cache
def _config_model(plugins: tuple[str, ...]) -> type[Config]:
    fields: dict[str, Any] = {}
    for measurement in MEASUREMENTS.values():
        for name, model in measurement.shared.items():
            fields[name] = (
                model,
                Field(default_factory=model, description=(model.__doc__ or "").partition("\n")[0]),
            )
        if measurement.section is not None:
            fields[measurement.name] = (
                measurement.section | None,
                Field(default_factory=measurement.section, description=f"Null: {measurement.off}."),
            )
    suite = create_model("Suite", __base__=Suite, __doc__=Suite.__doc__, **fields)
    suites = (dict[str, suite], Config.model_fields["suites"])
    made: Any = create_model("Config", __base__=Config, __doc__=Config.__doc__, suites=suites)
    return cast(type[Config], made)


def reserved() -> tuple[str, ...]:
    """Names of folders and targets that no suite may take."""
    folders = ("report", "reference", "studies", "backbones", "logs", "benchmarks", "all")
    return (*folders, "tables", "figures", *REPORTS, *MEASUREMENTS)


def _line(error: ErrorDetails) -> str:
    key = _key(error["loc"])
    value = error["input"]
    if error["type"] == "extra_forbidden":
        known = _fields_at(error["loc"][:-1])
        return f"{key}: unknown key; {expected_one_of(str(error['loc'][-1]), known)}"
    if error["type"] == "missing":
        return f"{key}: missing, expected a value: it has no default"
    expected = error["msg"].removeprefix("Input should be ").removeprefix("a ")
    if error["type"] == "value_error":  # of our own
        return f"{key} = {json.dumps(value, default=str)}: {expected.removeprefix('Value error, ')}"
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
    at: Any = config_model()
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


def _problems(config: Config) -> Iterator[str]:
    """What single fields cannot see: names that must exist, values that must agree."""
    mirror = config.data.mirror
    if mirror is not None and not Path(mirror).expanduser().is_dir():
        yield f"data.mirror = {mirror!r}: expected an existing directory laid out as the hub"
    for name, backbone in config.backbones.items():
        sources = [source for source in SOURCES if getattr(backbone, source) is not None]
        if len(sources) != 1:
            given = ", ".join(sources) or "no source"
            yield f"backbones.{name} = {given}: expected exactly one of {', '.join(SOURCES)}"
        if backbone.blocks is not None and not FAMILIES[backbone.family].shortens:
            able = " or ".join(family.name for family in FAMILIES.values() if family.shortens)
            yield (
                f"backbones.{name}.blocks = {backbone.blocks}: expected null, or a backbone of "
                f"family {able}: this one is of family {backbone.family!r}"
            )
    for table, signs in (("backbones", "_.-"), ("adapters", "_"), ("strategies", "-")):
        for name in getattr(config, table):
            if not re.fullmatch(f"[a-z0-9{signs}]+", name):
                allowed = f"a-z, 0-9 and {' '.join(signs)}"
                yield f"{table}.{name}: expected a name of {allowed}: paths are made of it"
    for name, strategy in config.strategies.items():
        if strategy.p0 > strategy.p1:
            yield f"strategies.{name}.p0 = {strategy.p0}: expected at most p1 = {strategy.p1}"
    taken = {"suites": reserved(), "studies": (*reserved(), *config.suites)}
    for table, signs in (("suites", "_-"), ("studies", "_")):
        for name in getattr(config, table):
            if not re.fullmatch(f"{_FREE}[a-z0-9{signs}]+", name) or name in taken[table]:
                yield (
                    f"{table}.{name}: expected a name of a-z, 0-9 and {' '.join(signs)}, without "
                    f"table_ or figure_ at its beginning, other than {', '.join(taken[table])}"
                )
    sound = set()
    for name, suite in config.suites.items():
        problems = list(_suite_problems(f"suites.{name}", suite, config))
        yield from problems
        if not problems:
            sound.add(name)
    for name, study in config.studies.items():
        if study.suite not in config.suites:
            expected = expected_one_of(study.suite, list(config.suites))
            yield f"studies.{name}.suite = {study.suite!r}: {expected}"
        elif study.suite in sound:  # else it would only repeat its suite's problems
            wrong = list(studies.problems(f"studies.{name}", study, config.suites[study.suite]))
            yield from wrong
            # All suites of a study have the same names; what differs is a rate, or the steps.
            first = None if wrong else next(iter(studies.variants(config, name).values()))
            yield from _suite_problems(f"studies.{name}", first.suite, config) if first else ()


def _suite_problems(at: str, suite: Suite, config: Config) -> Iterator[str]:
    yield from unknown_values(f"{at}.tasks", suite.tasks, TASKS)
    yield from unknown_values(f"{at}.adapters", suite.adapters, config.adapters)
    yield from unknown_values(f"{at}.strategies", suite.strategies, config.strategies)
    sets = [name for task in suite.tasks if task in TASKS for name in TASKS[task].sets or (task,)]
    if len(set(sets)) < len(sets):
        twice = next(name for name in sets if sets.count(name) > 1)
        yield f"{at}.tasks = {list(suite.tasks)}: expected {twice!r} to be scored by one task only"
    for axis in ("tasks", "adapters", "strategies", "seeds"):
        values = getattr(suite, axis)
        if len(set(values)) < len(values):
            yield f"{at}.{axis} = {list(values)}: expected no value twice"
    if suite.backbone not in config.backbones:
        expected = expected_one_of(suite.backbone, list(config.backbones))
        yield f"{at}.backbone = {suite.backbone!r}: {expected}"
    else:
        yield from _fit_problems(at, suite, config)
    yield from _mirror_problems(suite, config)
    yield from _learning_rate_problems(at, suite, config)
    for name in suite.adapter_settings:
        if name not in config.adapters:
            expected = expected_one_of(name, list(config.adapters))
            yield f"{at}.adapter_settings.{name}: unknown adapter; {expected}"
    lengths = {name: getattr(suite.train, name) for name in LENGTHS}
    if sum(value is not None for value in lengths.values()) != 1:
        given = ", ".join(f"{name} = {value}" for name, value in lengths.items())
        yield f"{at}.train: {given}: expected exactly one of them"
    if suite.train.loss_on == "candidates" and suite.train.layout == "packed":
        expected = "expected 'length' or 'shuffled', as the loss is on the end of every prompt"
        yield f"{at}.train.layout = 'packed': {expected}"
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
            expected = expected_one_of(task, suite.tasks)
            yield f"{at}.train.per_task.{task}: unknown task; {expected}"
    for measurement in MEASUREMENTS.values():
        yield from measurement.check(at, suite)


def _fit_problems(at: str, suite: Suite, config: Config) -> Iterator[str]:
    """What the backbone cannot do."""
    backbone = config.backbones[suite.backbone]
    family, projections = FAMILIES[backbone.family], backbone.names
    kind = family.kind
    if suite.head not in family.heads:
        yield (
            f"{at}.head = {suite.head!r}: expected {' or '.join(family.heads)}: "
            f"backbone {suite.backbone!r} is of family {backbone.family!r}"
        )
    if kind == "image" and suite.train.too_long != "cut":
        yield f"{at}.train.too_long = {suite.train.too_long!r}: expected cut, images have no length"
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
            expected = expected_one_of(key, known)
            yield f"{at}.learning_rates.{key}: unknown adapter or arm; {expected}"
        if not grid or len(set(grid)) < len(grid):
            yield f"{at}.learning_rates.{key} = {list(grid)}: expected one or more different values"
    for adapter in suite.adapters:
        if adapter not in suite.learning_rates and not all(
            f"{adapter}-{s}" in suite.learning_rates for s in suite.strategies
        ):
            yield f"{at}.learning_rates.{adapter}: missing; every adapter needs a grid"
    yield from unknown_values(f"{at}.selection_seeds", suite.selection_seeds, suite.seeds)
