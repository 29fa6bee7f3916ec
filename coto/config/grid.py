"""What a configuration asks for: suites, studies, arms, runs, and the records they leave."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from coto.config import paths
from coto.config.axes import record_paths
from coto.config.definitions import Adapter
from coto.config.families import FAMILIES
from coto.config.models import Config
from coto.config.suites import Suite


@dataclass(frozen=True)
class Arm:
    """An adapter kind trained with a strategy on one task."""

    suite: str
    task: str
    adapter: str
    strategy: str


@dataclass(frozen=True)
class Grid:
    """Everything that there is to do."""

    config: Config

    @cached_property
    def suites(self) -> dict[str, Suite]:
        """All suites, those that the studies are made of among them."""
        studied = {
            name: suite
            for study in self.config.studies
            for name, suite in self.study(study).items()
        }
        return {**self.config.suites, **studied}

    def study(self, name: str) -> dict[str, Suite]:
        """The suites that a study is made of: one, or one per learning rate that it tries."""
        study = self.config.studies[name]
        base = self.config.suites[study.suite]
        axes = ("tasks", "adapters", "strategies", "seeds")
        changes = {axis: given for axis in axes if (given := getattr(study, axis)) is not None}
        changes["train"] = base.train.model_copy(update={"snapshots": study.snapshots})
        # A study asks for what the rebuttal shows of it: plain merging, whole adapters removed.
        if base.interpolate is not None:
            changes["interpolate"] = base.interpolate.model_copy(
                update={"operators": ("fusion",), "halfway": ()}
            )
        if base.prune is not None:
            changes["prune"] = base.prune.model_copy(update={"unstructured": None})
        changes |= {"overhead": None, "merge": None, "subnetworks": None, "geometry": None}
        varied = base.model_copy(update=changes)
        if study.learning_rates is None:
            return {name: varied}
        return {
            f"{name}-{paths.number(rate)}": varied.model_copy(
                update={"learning_rates": dict.fromkeys(varied.adapters, (rate,))}
            )
            for rate in study.learning_rates
        }

    def adapter(self, suite: str, name: str) -> Adapter:
        """An adapter as a suite uses it."""
        return self.suites[suite].adapter_settings.get(name) or self.config.adapters[name]

    def grid(self, suite: str, adapter: str, strategy: str) -> list[str]:
        """Learning rates of an arm, as they stand in paths."""
        grids = self.suites[suite].learning_rates
        values = grids.get(f"{adapter}-{strategy}") or grids[adapter]
        return [paths.number(value) for value in values]

    def runs(self, arm: Arm, seed: int | str) -> list[str]:
        """Folders of an arm's runs with one seed, one per learning rate of its grid."""
        return [
            paths.run(arm.suite, arm.task, arm.adapter, arm.strategy, lr, seed)
            for lr in self.grid(arm.suite, arm.adapter, arm.strategy)
        ]

    def selection(self, arm: Arm) -> list[str]:
        """The record that chooses an arm's learning rate; none where there is no choice."""
        if len(self.grid(arm.suite, arm.adapter, arm.strategy)) == 1:
            return []
        return [paths.select_record(arm.suite, arm.task, arm.adapter, arm.strategy)]

    def selection_seeds(self, suite: str) -> tuple[int, ...]:
        """Seeds whose validation scores choose the learning rate."""
        cfg = self.suites[suite]
        return cfg.seeds if cfg.selection_seeds is None else cfg.selection_seeds

    def subnetwork_seeds(self, suite: str) -> list[int]:
        """Seeds whose sub-networks are scored."""
        cfg = self.suites[suite]
        if cfg.subnetworks is None:
            return []
        return list(cfg.seeds if cfg.subnetworks.seeds is None else cfg.subnetworks.seeds)

    def subnetwork_tasks(self, suite: str) -> list[str]:
        """Tasks whose sub-networks are scored."""
        cfg = self.suites[suite]
        return list((cfg.subnetworks and cfg.subnetworks.tasks) or cfg.tasks)

    def geometry_tasks(self, suite: str) -> list[str]:
        """Tasks whose runs are compared by their weights."""
        cfg = self.suites[suite]
        return list((cfg.geometry and cfg.geometry.tasks) or cfg.tasks)

    def operators(self, suite: str, stage: str) -> list[str]:
        """Merging operators that ``merge`` or ``interpolate`` uses in a suite."""
        part = getattr(self.suites[suite], stage)
        if part is None:
            return []
        return list(dict.fromkeys([*part.operators, *getattr(part, "halfway", ())]))

    def adapters_of(self, arm: Arm, *seeds: int | str) -> list[str]:
        """Files that a stage needs to use an arm's trained adapters: weights and the choice."""
        weights = [paths.adapter_weights(run) for seed in seeds for run in self.runs(arm, seed)]
        return weights + self.selection(arm)

    def overhead_task(self, suite: str) -> str:
        """The task whose batches are timed."""
        cfg = self.suites[suite]
        return (cfg.overhead and cfg.overhead.task) or cfg.tasks[0]

    def axes(self, suite: str) -> dict[str, Any]:
        """What a suite's records are enumerated from: small, however many runs there are."""
        cfg = self.suites[suite]
        parts = ("interpolate", "merge", "prune", "subnetworks", "geometry", "overhead")
        return {
            "suite": suite,
            "facts": self.facts(suite),
            "tasks": list(cfg.tasks),
            "adapters": list(cfg.adapters),
            "strategies": list(cfg.strategies),
            "seeds": list(cfg.seeds),
            "subnetwork_seeds": self.subnetwork_seeds(suite),
            "grids": {
                f"{a}-{s}": self.grid(suite, a, s) for a in cfg.adapters for s in cfg.strategies
            },
            "stages": [
                *(["baseline"] if suite in self.config.suites else []),
                *(part for part in parts if getattr(cfg, part) is not None),
                *(["trajectory"] if cfg.train.snapshots else []),
            ],
        }

    def facts(self, suite: str) -> dict[str, Any]:
        """What a reader of a suite's tables must know."""
        cfg = self.suites[suite]
        family = self.config.backbones[cfg.backbone].family
        facts = {
            "backbone": cfg.backbone,
            "kind": FAMILIES[family].kind,
            "shots": cfg.rows.shots,
            "test_rows": cfg.rows.test,
            "subnetwork_rows": cfg.subnetworks and cfg.subnetworks.rows,
        }
        if family == "causal":
            facts |= {"loss_on": cfg.train.loss_on, "protocol": cfg.evaluation.protocols[0]}
        return facts

    def records(self, *suites: str) -> dict[str, list[str]]:
        """Paths of the records of some suites, or of all, by stage."""
        return record_paths([self.axes(suite) for suite in suites or self.config.suites])

    def backbone(self, suite: str) -> dict[str, Any]:
        """A suite's backbone as jobs read it."""
        name = self.suites[suite].backbone
        backbone = self.config.backbones[name]
        return backbone.model_dump() | {"name": name, "projections": backbone.names}
