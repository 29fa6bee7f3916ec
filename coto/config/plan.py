"""The DAG's nodes and each job's settings, from a validated configuration.

A job's settings are one canonical JSON string of exactly what it reads. Snakemake compares the
parameters of a job as an unordered set of values, so several named parameters would hide a swap of
two values and a reordered mapping would cause a rerun; one sorted string does neither. Lists that
only fan out, such as the seeds, stay out of the settings of single runs.
"""

from dataclasses import asdict
from typing import Any

from coto.adapters.kinds import KINDS
from coto.config.axes import canonical
from coto.config.grid import Grid
from coto.config.suites import LENGTHS, TaskTraining
from coto.operators.registry import OPERATORS
from coto.tasks.registry import TASKS


class Plan(Grid):
    """What each job of a grid reads."""

    def convert(self, backbone: str) -> str:
        """Settings of converting a backbone from a wheel."""
        return canonical({"backbone": self.config.backbones[backbone].model_dump()})

    def baseline(self, suite: str) -> str:
        """Settings of scoring what no training gives."""
        cfg = self.suites[suite]
        return canonical(
            {
                "suite": suite,
                "tasks": list(cfg.tasks),
                "entries": [TASKS[task].scored() for task in cfg.tasks],
                "backbone": self.backbone(suite),
                "device": self.config.device,
                "precision": self.config.precision,
                "evaluation": self._evaluation(suite, *cfg.tasks),
                **self._standard(suite),
            }
        )

    def prepare(self, suite: str, task: str) -> str:
        """Settings of making a task's rows."""
        cfg = self.suites[suite]
        return canonical(
            {
                "task": task,
                "entry": asdict(TASKS[task]),
                "rows": cfg.rows.model_dump(exclude={"shots"}),
                "mirror": self.config.data.mirror if TASKS[task].source == "hub" else None,
            }
        )

    def train(self, suite: str, task: str, adapter: str, strategy: str, lr: str, seed: str) -> str:
        """Settings of one training run."""
        return canonical(
            {
                **self._run(suite, task, adapter, strategy),
                "strategy_settings": self.config.strategies[strategy].model_dump(),
                "kind": asdict(KINDS[self.adapter(suite, adapter).kind]),
                "train": self._training(suite, task),
                "shots": self.suites[suite].rows.shots,
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

    def interpolate(self, suite: str, adapter: str, strategy: str, seeds: str) -> str:
        """Settings of mixing an arm's runs of two or three seeds."""
        mixed = [int(seed) for seed in seeds.split("-")]
        merging = self._merging(suite, "interpolate")
        return self._operator("interpolate", suite, adapter, strategy, seeds=mixed, **merging)

    def trajectory(self, suite: str, adapter: str, strategy: str) -> str:
        """Settings of scoring the snapshots of an arm's runs."""
        cfg = self.suites[suite]
        return self._operator(
            "trajectory",
            suite,
            adapter,
            strategy,
            seeds=list(cfg.seeds),
            snapshots=list(cfg.train.snapshots),
        )

    def merge(self, suite: str, adapter: str, strategy: str, seed: str) -> str:
        """Settings of merging all tasks of a suite."""
        merging = self._merging(suite, "merge")
        return self._operator("merge", suite, adapter, strategy, seed=int(seed), **merging)

    def subnetworks(self, suite: str, adapter: str, strategy: str, seed: str) -> str:
        """Settings of scoring subsets of the adapters of an arm's runs with one seed."""
        cfg = self.suites[suite].subnetworks
        assert cfg is not None
        early = self.config.strategies[strategy].kind.startswith("coto")
        tasks = self.subnetwork_tasks(suite)
        return self._operator(
            "subnetworks",
            suite,
            adapter,
            strategy,
            seed=int(seed),
            tasks=tasks,
            entries=[TASKS[task].scored() for task in tasks],
            subnetworks=cfg.model_dump(exclude={"tasks", "seeds", "early_stop"})
            | {"early_stop": cfg.early_stop if early else None},
        )

    def geometry(self, suite: str, adapter: str) -> str:
        """Settings of comparing the weights of all runs with an adapter kind."""
        cfg = self.suites[suite]
        return canonical(
            {
                "suite": suite,
                "adapter": adapter,
                "backbone": self.backbone(suite),
                "device": self.config.device,
                "precision": self.config.precision,
                "evaluation": self._evaluation(suite, *self.geometry_tasks(suite)),
                "tasks": self.geometry_tasks(suite),
                "seeds": list(cfg.seeds),
                "grids": {name: self.grid(suite, adapter, name) for name in cfg.strategies},
            }
        )

    def overhead(self, suite: str, adapter: str) -> str:
        """Settings of measuring an adapter kind's training time."""
        cfg = self.suites[suite]
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
                "train": {
                    name: value
                    for name, value in self._training(suite, task).items()
                    # What a run leaves behind has no part in a timed step.
                    if name not in ("snapshots", "gradients", "checkpoint_every")
                },
                "shots": cfg.rows.shots,
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

    def report_study(self, study: str) -> str:
        """Settings of a study's table and figure."""
        return canonical(
            {
                "study": study,
                "axes": [self.axes(suite) for suite in self.study(study)],
                "statistics": self.config.report.statistics.model_dump(),
                "tables": self.config.report.tables.model_dump(),
                "figures": self.config.report.figures.model_dump(),
            }
        )

    def claims(self) -> str:
        """Settings of the claims."""
        return self._report()

    def _report(self, **looks: Any) -> str:
        """Which records there are, how they are judged, and how the result is shown."""
        return canonical(
            {
                "axes": [self.axes(suite) for suite in sorted(self.config.suites)],
                "statistics": self.config.report.statistics.model_dump(),
                **looks,
            }
        )

    def _run(self, suite: str, task: str, adapter: str, strategy: str) -> dict[str, Any]:
        """What every use of a model on a task reads."""
        return {
            "suite": suite,
            "task": task,
            "entry": TASKS[task].scored(),
            "adapter": adapter,
            "strategy": strategy,
            "backbone": self.backbone(suite),
            "adapter_settings": self.adapter(suite, adapter).model_dump(),
            "device": self.config.device,
            "precision": self.config.precision,
            "evaluation": self._evaluation(suite, task),
            **self._standard(suite),
        }

    def _operator(self, stage: str, suite: str, adapter: str, strategy: str, **more: Any) -> str:
        """Settings of a stage that changes trained adapters and scores them on every task."""
        cfg = self.suites[suite]
        settings = self._run(suite, cfg.tasks[0], adapter, strategy)
        # The adapter on disk says what it is; its settings would only add reruns.
        for name in ("task", "entry", "adapter_settings"):
            del settings[name]
        # What was trained is scored once with every built-in task, not after every change.
        settings["evaluation"] = self._evaluation(suite, *cfg.tasks) | {"standard": []}
        settings.pop("mirror", None)
        return canonical(
            {
                **settings,
                "tasks": list(cfg.tasks),
                "entries": [TASKS[task].scored() for task in cfg.tasks],
                "lrs": self.grid(suite, adapter, strategy),
                **({stage: getattr(cfg, stage).model_dump()} if hasattr(cfg, stage) else {}),
                **more,
            }
        )

    def _merging(self, suite: str, stage: str) -> dict[str, Any]:
        """The operators that a stage uses, each with all its settings."""
        merging = self.suites[suite].merging
        given: dict[str, dict[str, Any]] = dict(merging.settings)  # type: ignore[arg-type]
        return {
            "operators": {
                name: OPERATORS[name].resolved(given.get(name, {}))
                for name in self.operators(suite, stage)
            },
            "merging": merging.model_dump(include={"repeats", "save"}),
        }

    def _training(self, suite: str, task: str) -> dict[str, Any]:
        """Training settings with the task's overrides applied."""
        cfg = self.suites[suite]
        train = cfg.train
        settings = train.model_dump(exclude={"per_task"})
        if cfg.subnetworks is not None and cfg.subnetworks.early_stop is not None:
            # A run that stops early is the same run up to there.
            settings["snapshots"] = sorted({*train.snapshots, cfg.subnetworks.early_stop})
        over = train.per_task.get(task, TaskTraining()).model_dump(exclude_none=True)
        if over.keys() & set(LENGTHS):
            settings |= dict.fromkeys(LENGTHS)
        return settings | over

    def _standard(self, suite: str) -> dict[str, Any]:
        """Where lm-eval's own tasks find their data, if there are any to score."""
        asked = self.suites[suite].evaluation.standard
        return {"mirror": self.config.data.mirror} if asked else {}

    def _evaluation(self, suite: str, *tasks: str) -> dict[str, Any]:
        """How models are scored on tasks."""
        return self.suites[suite].evaluation.model_dump(mode="json") | {
            "max_lengths": {task: self._training(suite, task)["max_length"] for task in tasks}
        }
