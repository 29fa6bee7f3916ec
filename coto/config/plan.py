"""The DAG's nodes and each job's settings, from a validated configuration.

A job's settings are one canonical JSON string of exactly what it reads. Snakemake compares the
parameters of a job as an unordered set of values, so several named parameters would hide a swap of
two values and a reordered mapping would cause a rerun; one sorted string does neither. Lists that
only fan out, such as the seeds, stay out of the settings of single runs.
"""

from dataclasses import asdict, dataclass
from typing import Any

from coto.adapters.kinds import KINDS
from coto.config import paths
from coto.config.axes import canonical, record_paths
from coto.config.models import Config, TaskTraining
from coto.tasks.registry import TASKS

# Outputs of the report, declared by its rules.
TABLES = (
    "single_task",
    "interpolation",
    "multitask_merging",
    "pruning",
    "training_time",
    "learning_rate",
)
FIGURES = ("masks", "schedule", "interpolation", "pruning", "training_time")


@dataclass(frozen=True)
class Arm:
    """An adapter kind trained with a strategy on one task."""

    suite: str
    task: str
    adapter: str
    strategy: str


@dataclass(frozen=True)
class Plan:
    """Which jobs a configuration asks for, and what each of them reads."""

    config: Config

    # --- what there is to do -------------------------------------------------------------------

    def grid(self, suite: str, adapter: str, strategy: str) -> list[str]:
        """Learning rates of an arm, as they stand in paths."""
        grids = self.config.suites[suite].learning_rates
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
        cfg = self.config.suites[suite]
        return cfg.seeds if cfg.selection_seeds is None else cfg.selection_seeds

    def adapters_of(self, arm: Arm, *seeds: int | str) -> list[str]:
        """Files that a stage needs to use an arm's trained adapters: weights and the choice."""
        weights = [paths.adapter_weights(run) for seed in seeds for run in self.runs(arm, seed)]
        return weights + self.selection(arm)

    def overhead_task(self, suite: str) -> str:
        """The task whose batches are timed."""
        cfg = self.config.suites[suite]
        return (cfg.overhead and cfg.overhead.task) or cfg.tasks[0]

    def axes(self, suite: str) -> dict[str, Any]:
        """What a suite's records are enumerated from: small, however many runs there are."""
        cfg = self.config.suites[suite]
        parts = ("interpolate", "merge", "prune", "overhead")
        return {
            "suite": suite,
            "tasks": list(cfg.tasks),
            "adapters": list(cfg.adapters),
            "strategies": list(cfg.strategies),
            "seeds": list(cfg.seeds),
            "grids": {
                f"{a}-{s}": self.grid(suite, a, s) for a in cfg.adapters for s in cfg.strategies
            },
            "stages": [part for part in parts if getattr(cfg, part) is not None],
        }

    def records(self, *suites: str) -> dict[str, list[str]]:
        """Paths of the records of some suites, or of all, by stage."""
        return record_paths([self.axes(suite) for suite in suites or self.config.suites])

    # --- what each job reads -------------------------------------------------------------------

    def prepare(self, suite: str, task: str) -> str:
        """Settings of making a task's rows."""
        cfg = self.config.suites[suite]
        return canonical(
            {
                "task": task,
                "entry": asdict(TASKS[task]),
                "rows": cfg.rows.model_dump(),
                "mirror": self.config.data.mirror if TASKS[task].source == "hub" else None,
            }
        )

    def train(self, suite: str, task: str, adapter: str, strategy: str, lr: str, seed: str) -> str:
        """Settings of one training run."""
        return canonical(
            {
                **self._run(suite, task, adapter, strategy),
                "strategy_settings": self.config.strategies[strategy].model_dump(),
                "kind": asdict(KINDS[self.config.adapters[adapter].kind]),
                "train": self._training(suite, task),
                "lr": float(lr),
                "seed": int(seed),
            }
        )

    def select(self, suite: str, task: str, adapter: str, strategy: str) -> str:
        """Settings of choosing a learning rate."""
        return canonical(
            {
                "suite": suite,
                "task": task,
                "adapter": adapter,
                "strategy": strategy,
                "lrs": self.grid(suite, adapter, strategy),
                "seeds": list(self.selection_seeds(suite)),
            }
        )

    def prune(self, suite: str, adapter: str, strategy: str, seed: str) -> str:
        """Settings of pruning an arm's runs with one seed."""
        return self._operator("prune", suite, adapter, strategy, seed=int(seed))

    def interpolate(self, suite: str, adapter: str, strategy: str, seed_a: str, seed_b: str) -> str:
        """Settings of an arm's paths between two seeds."""
        seeds = [int(seed_a), int(seed_b)]
        return self._operator("interpolate", suite, adapter, strategy, seeds=seeds)

    def merge(self, suite: str, adapter: str, strategy: str, seed: str) -> str:
        """Settings of merging all tasks of a suite."""
        return self._operator("merge", suite, adapter, strategy, seed=int(seed))

    def overhead(self, suite: str, adapter: str) -> str:
        """Settings of measuring an adapter kind's training time."""
        cfg = self.config.suites[suite]
        assert cfg.overhead is not None
        task = self.overhead_task(suite)
        runs = {name: self._run(suite, task, adapter, name) for name in cfg.strategies}
        shared = next(iter(runs.values()))
        del shared["strategy"]
        return canonical(
            {
                **shared,
                "strategies": {
                    name: self.config.strategies[name].model_dump() for name in cfg.strategies
                },
                "learning_rates": {
                    name: float(self.grid(suite, adapter, name)[0]) for name in cfg.strategies
                },
                "train": self._training(suite, task),
                "overhead": cfg.overhead.model_dump(),
            }
        )

    def tables(self) -> str:
        """Settings of the tables."""
        return self._report(style=self.config.report.tables.model_dump())

    def figures(self) -> str:
        """Settings of the figures."""
        return self._report(
            style=self.config.report.figures.model_dump(),
            strategies={
                name: self.config.strategies[name].model_dump()
                for suite in self.config.suites.values()
                for name in suite.strategies
            },
        )

    def claims(self) -> str:
        """Settings of the claims."""
        return self._report()

    def _report(self, **looks: Any) -> str:
        """Which records there are, how they are judged, and how the result is shown."""
        return canonical(
            {
                "axes": [self.axes(suite) for suite in self.config.suites],
                "statistics": self.config.report.statistics.model_dump(),
                **looks,
            }
        )

    def _run(self, suite: str, task: str, adapter: str, strategy: str) -> dict[str, Any]:
        """What every use of a model on a task reads."""
        cfg = self.config.suites[suite]
        return {
            "suite": suite,
            "task": task,
            "entry": _scored(task),
            "adapter": adapter,
            "strategy": strategy,
            "backbone": self.config.backbones[cfg.backbone].model_dump(),
            "adapter_settings": self.config.adapters[adapter].model_dump(),
            "device": self.config.device,
            "precision": self.config.precision,
            "evaluation_batch_tokens": cfg.evaluation_batch_tokens,
        }

    def _operator(
        self, stage: str, suite: str, adapter: str, strategy: str, **coordinates: Any
    ) -> str:
        """Settings of a stage that changes trained adapters and scores them on every task."""
        cfg = self.config.suites[suite]
        settings = self._run(suite, cfg.tasks[0], adapter, strategy)
        # The adapter on disk says what it is; its settings would only add reruns.
        for name in ("task", "entry", "adapter_settings"):
            del settings[name]
        return canonical(
            {
                **settings,
                **coordinates,
                "tasks": list(cfg.tasks),
                "entries": [_scored(task) for task in cfg.tasks],
                "max_lengths": {t: self._training(suite, t)["max_length"] for t in cfg.tasks},
                "lrs": self.grid(suite, adapter, strategy),
                stage: getattr(cfg, stage).model_dump(),
            }
        )

    def _training(self, suite: str, task: str) -> dict[str, Any]:
        """Training settings with the task's overrides applied."""
        train = self.config.suites[suite].train
        settings = train.model_dump(exclude={"per_task"})
        over = train.per_task.get(task, TaskTraining()).model_dump(exclude_none=True)
        if over.keys() & {"steps", "epochs"}:
            settings |= {"steps": None, "epochs": None}
        return settings | over


def _scored(task: str) -> dict[str, Any]:
    """What training and scoring read of a task's entry, whose module no fingerprint covers."""
    entry = TASKS[task]
    return {
        "num_labels": entry.num_labels,
        "metrics": list(entry.metrics),
        "headline": entry.headline,
    }
