"""What a measurement is, and what its job is given.

A measurement is one object in one file: the part of a suite's configuration that it reads, which
jobs it has in a suite, what each of them reads and needs, what it writes, and the function that
does it. The workflow's rules, the command line, the code fingerprints and the reader of records
take all of that from the object; to add one, write a file and add the object to
:data:`MEASUREMENTS`.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from coto import record
from coto.config import paths
from coto.config.models import Suite
from coto.config.plan import Plan
from coto.errors import CotoError
from coto.registry import Registry, expected_one_of
from coto.settings import Model

if TYPE_CHECKING:
    import pandas as pd

    from coto.adapters.delta import LowRankAdapter
    from coto.models.base import Scores
    from coto.tasks.task import Task

log = logging.getLogger(__name__)
S = TypeVar("S", bound=Model)
Block = Mapping[str, Sequence[str]]
"""Values by coordinate: stands for all their combinations."""


@dataclass(frozen=True)
class Cell:
    """Where in the grid a job is: the wildcards of its paths, empty where it has none."""

    suite: str = ""
    backbone: str = ""
    task: str = ""
    adapter: str = ""
    strategy: str = ""
    lr: str = ""
    seed: str = ""
    seeds: str = ""

    def at(self, **changes: str) -> Self:
        """The cell with other coordinates."""
        return type(self)(**{**vars(self), **changes})


@dataclass(frozen=True)
class Columns:
    """The rows of a record: columns that tell them apart, and the others, each with its type.

    Where rows repeat a measurement no column tells them apart. Numbers are finite.
    """

    key: Mapping[str, type]
    values: Mapping[str, type]

    @property
    def types(self) -> dict[str, type]:
        """Every column with its type, in order."""
        return {**self.key, **self.values}


ARM = {"suite": str, "trained_on": str, "task": str, "adapter": str, "strategy": str}
"""Columns of a trained arm: what it was trained on, and the evaluation set."""
SCORE = {"value": float, "headline": bool, "n": int, "truncated": int, "left_out": int, "flag": str}
"""Columns of a score beside its metric, of :meth:`Job.score_rows`."""


def scores_by(**key: type) -> Columns:
    """Columns of scores of an arm that more than the arm and the metric tells apart."""
    return Columns({**ARM, **key, "metric": str}, SCORE)


@dataclass(frozen=True)
class Job(Generic[S]):
    """One job: exactly the settings that the workflow made, and the places of its files.

    `root` is the results folder, `code` the fingerprint of the job's code, `used` the hashes of the
    rows and adapters that were read, by their path under the results folder.
    """

    settings: S
    root: Path
    outputs: Mapping[str, Path]
    threads: int = 1
    code: str = ""
    used: dict[str, str] = field(default_factory=dict)

    def rows(self, suite: str, task: str, split: str) -> "pd.DataFrame":
        """Prepared rows of one part of a task."""
        import pandas as pd

        path = self.root / (name := paths.data(suite, task, split))
        try:
            self.used[name] = record.digest(path)
            return pd.read_parquet(path)
        except (OSError, ValueError) as error:
            raise CotoError(f"rows {str(path)!r}: cannot be read ({error})") from None

    def adapter(self, folder: str) -> "LowRankAdapter":
        """A trained adapter, by its folder under the results folder.

        Raises:
            CotoError: if it is not the one that the record of its training describes.
        """
        from coto.adapters.store import read_adapter

        trained = self.root / folder.partition("/adapter")[0] / "train.json"
        kept = record.read(trained).get("files", {})
        name = folder.partition("/adapter")[2].strip("/") or "."
        digest = record.digest(self.root / folder)
        if kept.get(name) != digest:
            raise CotoError(
                f"adapter {str(self.root / folder)!r}: has changed since it was trained: expected "
                f"the content that {trained.name} beside it describes; delete it to train it again"
            )
        self.used[folder] = digest
        return read_adapter(self.root / folder)

    def score_rows(
        self, trained_on: "Task", scores: "Sequence[Scores]", label: str, /, **coordinates: Any
    ) -> list[dict[str, Any]]:
        """One row per evaluation set and metric; a line of the log has the headline scores."""
        log.info("%s: %s", label, _summary(scores))
        return [
            {
                **coordinates,
                "trained_on": trained_on.name,
                "task": one.task,
                "metric": metric,
                "value": value,
                "headline": metric == one.headline,
                "n": one.items["idx"].nunique(),
                "truncated": one.truncated,
                "left_out": one.left_out,
                "flag": "collapsed" if one.collapsed else "",
            }
            for one in scores
            for metric, value in one.metrics.items()
        ]

    def write(
        self,
        name: str,
        rows: Sequence[Mapping[str, Any]],
        compute: Mapping[str, Any] | None = None,
        **more: Any,
    ) -> None:
        """Write a record (:func:`coto.record.write`) with the job's settings and inputs."""
        settings = self.settings.model_dump(mode="json")
        record.write(self.outputs[name], name, settings, rows, compute, inputs=self.used, **more)


Inputs = dict[str, list[str]]


@dataclass(frozen=True, kw_only=True)
class Command(Generic[S]):
    """One kind of job, as the command line (``python -m coto NAME``) and the rules know it.

    `outputs` are templates of the paths that a job writes, under the results folder, by name; the
    first one names the job's log.
    """

    name: str
    summary: str
    settings: type[S]
    outputs: Mapping[str, str]
    run: Callable[[Job[S]], None]

    @property
    def code_of_run(self) -> str:
        """The function that does it, as fingerprints name it."""
        return f"{self.run.__module__}:{self.run.__qualname__}"

    @property
    def log(self) -> str:
        """Template of the path of a job's log, without its suffix."""
        template = Path(next(iter(self.outputs.values()))).with_suffix("")
        parts = [part for part in template.parts if "{" in part]
        return "/".join([self.name, *parts])


@dataclass(frozen=True, kw_only=True)
class Measurement(Command[S]):
    """A kind of job that a suite has one of for each combination of some coordinates.

    The fields of its outputs' templates are those of :class:`Cell`; its name is also the rule's.

    Attributes:
        columns: of the outputs that are records.
        folders: outputs that are folders.
        blocks: which jobs there are in a suite that has the section.
        build: a job's settings.
        inputs: files that a job reads, by kind, under the results folder unless absolute.
        code: what runs besides `run`, because it is looked up by name: definitions as
            ``module:name``, or ``package:REGISTRY.add`` for all that is added to a registry.
        section: the part of a suite's configuration that it reads; its key is the name.
        off: what it means when the section is null.
        shared: further parts that it reads, by key.
        in_study: the section in a study; null leaves it out.
        check: problems of the section that single fields cannot see, one line each; is given the
            suite's key.
        uses_model: whether a job loads a model, and reserves what the suite says.
        alone: whether a job has the machine to itself.
    """

    columns: Mapping[str, Columns] = field(default_factory=dict)
    folders: frozenset[str] = frozenset()
    blocks: Callable[[Plan, str], list[Block]]
    build: Callable[[Plan, Cell], S]
    inputs: Callable[[Plan, Cell], Inputs] = lambda plan, cell: {}
    code: Callable[[Plan, Cell], Iterable[str]] = lambda plan, cell: ()
    section: type[Model] | None = None
    off: str = ""
    shared: Mapping[str, type[Model]] = field(default_factory=dict)
    in_study: Callable[[Any], Model | None] = lambda section: None
    check: Callable[[str, Suite], Iterable[str]] = lambda at, suite: ()
    uses_model: bool = True
    alone: bool = False

    def path(self, cell: Cell, output: str | None = None) -> str:
        """Path of an output, the first one if none is named, under the results folder."""
        return self.outputs[output or next(iter(self.outputs))].format(**vars(cell))

    def blocks_of(self, plan: Plan, suite: str) -> list[Block]:
        """A suite's jobs: none where its section is null."""
        off = self.section is not None and plan.suites[suite].section(self.section) is None
        return [] if off else self.blocks(plan, suite)

    def cells(self, plan: Plan, suite: str) -> list[Cell]:
        """A suite's jobs, one by one."""
        return [
            Cell(**dict(zip(block, values, strict=True)))
            for block in self.blocks_of(plan, suite)
            for values in product(*block.values())
        ]


MEASUREMENTS: Registry[Measurement[Any]] = Registry("measurement")


def all_blocks(suite: str, **values: Iterable[Any]) -> list[Block]:
    """One block: the suite with these values."""
    return [{"suite": [suite], **{k: [str(v) for v in values[k]] for k in values}}]


def arm_blocks(plan: Plan, suite: str, **values: Iterable[Any]) -> list[Block]:
    """One block: all arms of a suite with these values; none where a coordinate has none."""
    cfg = plan.suites[suite]
    return all_blocks(suite, adapter=cfg.adapters, strategy=cfg.strategies, **values)


def unknown_values(at: str, chosen: Iterable[Any] | None, known: Iterable[Any]) -> Iterator[str]:
    """One line for each chosen value that the suite does not have."""
    names = [str(name) for name in known]
    for index, value in enumerate(chosen or ()):
        if str(value) not in names:
            yield f"{at}[{index}] = {value!r}: {expected_one_of(str(value), names)}"


def spelled(scores: Mapping[str, float]) -> str:
    """Scores as a person reads them in a log."""
    return ", ".join(f"{name} {value:.3f}" for name, value in scores.items())


def _summary(scores: "Sequence[Scores]") -> str:
    if len(scores) == 1:
        return spelled(scores[0].metrics)
    return ", ".join(f"{one.task} {one.metrics[one.headline]:.3f}" for one in scores)
