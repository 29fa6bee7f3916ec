"""Between the plan and the rules: paths with wildcards, input functions, parameters.

The rules stay declarations; what they would have to compute is here, as tested functions.
"""

import os
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coto.cli import module_of
from coto.config import paths
from coto.config.families import FAMILIES
from coto.config.fingerprint import fingerprint
from coto.config.grid import Arm
from coto.config.outputs import (
    FIGURES,
    REBUTTAL_FIGURES,
    REBUTTAL_STUDIES,
    REBUTTAL_TABLES,
    TABLES,
)
from coto.config.plan import Plan
from coto.operators.registry import OPERATORS
from coto.tasks.mirror import mirror_files
from coto.tasks.registry import TASKS

# Snakemake's wildcards: attributes by name.
Wildcards = Any


def let_jobs_run(checkout: str) -> None:
    """Make jobs run this checkout, with the interpreter that runs Snakemake.

    An activated conda environment goes before that interpreter.
    """
    os.environ["PYTHONPATH"] = checkout
    here = str(Path(sys.executable).parent)
    os.environ["PATH"] = os.pathsep.join([here, os.environ.get("PATH", os.defpath)])


@dataclass(frozen=True)
class Wiring:
    """What the rules ask of a plan."""

    plan: Plan

    @property
    def results(self) -> str:
        """The results folder."""
        return self.plan.config.results

    @property
    def gpus(self) -> int:
        """GPUs that a job asks a cluster for."""
        return int(self.plan.config.device == "cuda")

    def at(self, path: str) -> str:
        """A path under the results folder."""
        return f"{self.results}/{path}"

    def root(self, wildcards: Wildcards) -> str:
        """The results folder, as a job is told it."""
        return self.results

    def log(self, *parts: str) -> str:
        """A job's log, by its stage and coordinates."""
        return self.at(f"logs/{'/'.join(parts)}.log")

    def benchmark(self, *parts: str) -> str:
        """A job's time as Snakemake measures it; its memory is in its record.

        Of a job that :mod:`coto.job_server` runs Snakemake sees only the client that waits.
        """
        return self.at(f"benchmarks/{'/'.join(parts)}.tsv")

    @staticmethod
    def settings(of: Callable[..., str]) -> Callable[[Wildcards], str]:
        """A rule's settings parameter from the plan's method of that stage."""
        return lambda wildcards: of(**dict(wildcards.items()))

    # --- inputs --------------------------------------------------------------------------------

    def corpora(self, wildcards: Wildcards) -> list[str]:
        """The archive that an offline task is made from."""
        return [self.at(paths.CORPORA)] if TASKS[wildcards.task].source == "vader" else []

    def mirror(self, wildcards: Wildcards) -> list[str]:
        """Files of the mirror that a task is made from; the hub itself is no file."""
        task, mirror = TASKS[wildcards.task], self.plan.config.data.mirror
        if task.source != "hub" or mirror is None:
            return []
        return [str(file) for file in mirror_files(task, Path(mirror).expanduser())]

    def corpora_argument(self, wildcards: Wildcards) -> str:
        """The option that tells ``prepare`` where the offline corpora are."""
        if TASKS[wildcards.task].source != "vader":
            return ""
        return f"--corpora {self.at(paths.CORPORA)}"

    def backbone(self, wildcards: Wildcards) -> list[str]:
        """The suite's backbone, where it has to be made first."""
        name = self.plan.suites[wildcards.suite].backbone
        made = self.plan.config.backbones[name].wheel is not None
        return [self.at(paths.backbone(name))] if made else []

    def code(self, stage: str) -> Callable[[Wildcards], str]:
        """Fingerprint of a stage together with the suite's kind of workbench."""

        return lambda wildcards: self._code(stage, wildcards.suite)

    def merging_code(self, stage: str) -> Callable[[Wildcards], str]:
        """Fingerprint of a merging stage with the operators that it uses in a suite."""

        def of(wildcards: Wildcards) -> str:
            names = self.plan.operators(wildcards.suite, stage)
            modules = sorted({OPERATORS[name].module for name in names})
            return self._code(stage, wildcards.suite, *modules)

        return of

    def _code(self, stage: str, suite: str, *modules: str) -> str:
        name = self.plan.suites[suite].backbone
        family = FAMILIES[self.plan.config.backbones[name].family]
        return fingerprint(module_of(stage), family.bench[0], *modules)

    def memory(self, wildcards: Wildcards) -> int:
        """Memory in MB that a cluster reserves for a job of a suite."""
        return self.plan.suites[wildcards.suite].jobs.memory_mb

    def minutes(self, wildcards: Wildcards) -> int:
        """Time limit in minutes that a cluster sets a job of a suite."""
        return self.plan.suites[wildcards.suite].jobs.minutes

    def prepare_code(self, wildcards: Wildcards) -> str:
        """Fingerprint of ``prepare`` with the one module that builds this task."""
        return fingerprint("coto.stages.prepare", TASKS[wildcards.task].module)

    def selection_records(self, wildcards: Wildcards) -> list[str]:
        """Records of all runs that an arm's learning rate is chosen from."""
        arm = Arm(wildcards.suite, wildcards.task, wildcards.adapter, wildcards.strategy)
        return [
            self.at(paths.train_record(run))
            for seed in self.plan.selection_seeds(arm.suite)
            for run in self.plan.runs(arm, seed)
        ]

    def trained(self, wildcards: Wildcards) -> list[str]:
        """An arm's adapters of all tasks, and the records that choose among them."""
        return self._adapters(wildcards, self.plan.suites[wildcards.suite].tasks)

    def trained_players(self, wildcards: Wildcards) -> list[str]:
        """The same of the tasks whose sub-networks are scored."""
        return self._adapters(wildcards, self.plan.subnetwork_tasks(wildcards.suite))

    def trained_variants(self, wildcards: Wildcards) -> list[str]:
        """Adapters of one kind of all strategies, rates and seeds, of the tasks compared."""
        suite = self.plan.suites[wildcards.suite]
        return [
            self.at(paths.adapter_weights(run))
            for task in self.plan.geometry_tasks(wildcards.suite)
            for strategy in suite.strategies
            for seed in suite.seeds
            for run in self.plan.runs(Arm(wildcards.suite, task, wildcards.adapter, strategy), seed)
        ]

    def _adapters(self, wildcards: Wildcards, tasks: Iterable[str]) -> list[str]:
        given = dict(wildcards.items())
        if "seeds" in given:
            seeds = given["seeds"].split("-")
        elif "seed" in given:
            seeds = [given["seed"]]
        else:
            seeds = list(self.plan.suites[wildcards.suite].seeds)
        return [
            self.at(path)
            for task in tasks
            for path in self.plan.adapters_of(
                Arm(wildcards.suite, task, wildcards.adapter, wildcards.strategy), *seeds
            )
        ]

    def test_rows(self, wildcards: Wildcards) -> list[str]:
        """The reported rows of every task of a suite."""
        return self._test_rows(wildcards, self.plan.suites[wildcards.suite].tasks)

    def players_rows(self, wildcards: Wildcards) -> list[str]:
        """The reported rows of the tasks whose sub-networks are scored."""
        return self._test_rows(wildcards, self.plan.subnetwork_tasks(wildcards.suite))

    def _test_rows(self, wildcards: Wildcards, tasks: Iterable[str]) -> list[str]:
        return [self.at(paths.data(wildcards.suite, task, "test")) for task in tasks]

    def training_rows(self, wildcards: Wildcards) -> list[str]:
        """The training rows of every task of a suite."""
        return [
            self.at(paths.data(wildcards.suite, task, "train"))
            for task in self.plan.suites[wildcards.suite].tasks
        ]

    def overhead_rows(self, wildcards: Wildcards) -> str:
        """The training rows whose batches are timed."""
        return self.at(
            paths.data(wildcards.suite, self.plan.overhead_task(wildcards.suite), "train")
        )

    def records(self, *suites: str) -> list[str]:
        """All records of some suites, or of all."""
        return [self.at(p) for stage in self.plan.records(*suites).values() for p in stage]

    def study_records(self, wildcards: Wildcards) -> list[str]:
        """All records of the suites that a study is made of."""
        return self.records(*self.plan.study(wildcards.study))

    def answers(self) -> list[str]:
        """Every item's answer, of all training runs."""
        return [
            self.at(paths.answers(record.rpartition("/")[0]))
            for record in self.plan.records()["train"]
        ]

    # --- outputs of the report -----------------------------------------------------------------

    def tables(self, suffix: str) -> list[str]:
        """Table files of one format."""
        return [self.at(f"tables/{name}.{suffix}") for name in TABLES]

    def figures(self, suffix: str) -> list[str]:
        """Figure files of one format."""
        return [self.at(f"figures/{name}.{suffix}") for name in FIGURES]

    def targets(self) -> dict[str, list[str]]:
        """Files of every single table and figure, by the name that a person asks for it by."""
        tables = {f"table_{name}": name for name in TABLES} | REBUTTAL_TABLES
        figures = {f"figure_{name}": name for name in FIGURES} | REBUTTAL_FIGURES
        studied = {
            k: name for k, name in REBUTTAL_STUDIES.items() if name in self.plan.config.studies
        }
        return {
            **{target: [self.at(f"tables/{name}.md")] for target, name in tables.items()},
            **{target: [self.at(f"figures/{name}.png")] for target, name in figures.items()},
            **{
                target: [self.at(f"studies/{name}.{'md' if 'table' in target else 'png'}")]
                for target, name in studied.items()
            },
        }
