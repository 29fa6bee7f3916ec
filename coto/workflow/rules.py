"""What the rules ask: paths with wildcards, input functions, parameters, resources.

The rules stay declarations; what they would have to compute is here, as tested functions.
"""

import os
import shlex
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from coto.compat import extended
from coto.config.plan import Plan
from coto.findings import FIGURES, TABLES
from coto.findings.jobs import (
    CLAIMS,
    REPORTS,
    FigureSettings,
    RatesSettings,
    Reading,
    ReportSettings,
    StudySettings,
    TableSettings,
    all_records,
    records_of,
    statistics_of,
)
from coto.findings.possible import impossible
from coto.measurements.base import Cell, Command, Measurement
from coto.report.settings import Axes
from coto.settings import canonical
from coto.workflow.fingerprint import fingerprint, registrations

# Snakemake's wildcards: attributes by name.
Wildcards = Any
Of = Callable[[Wildcards], Any]

# The authors' rebuttal where it takes runs of its own: what a config calls those studies.
REBUTTAL_STUDIES = {
    "table_r3": "strategies",
    "figure_r1": "schedules",
    "figure_r2": "strategies",
    "figure_r3": "strategies",
    "figure_r6": "lr_sweep",
}


def let_jobs_run(checkout: str, plugins: Iterable[str] = ()) -> None:
    """Make jobs run this checkout and its plugins, with the interpreter that runs Snakemake.

    An activated conda environment goes before that interpreter. Plugins are no part of a job's
    command line: Snakemake would rerun every job for a new one.
    """
    os.environ["COTO_PLUGINS"] = os.pathsep.join(plugins)
    os.environ["PYTHONPATH"] = extended(checkout)
    os.environ["PATH"] = extended(str(Path(sys.executable).parent), "PATH")


@dataclass(frozen=True)
class Rules:
    """What the rules ask of a plan."""

    plan: Plan

    @property
    def results(self) -> str:
        """The results folder."""
        return self.plan.config.results

    def at(self, path: str) -> str:
        """A path under the results folder."""
        return f"{self.results}/{path}"

    # --- any kind of job ----------------------------------------------------------------------

    def outputs(self, command: Command[Any]) -> dict[str, str]:
        """Paths that a job writes, with wildcards, by name; no LaTeX where it is switched off."""
        off = () if self.plan.config.report.tables.latex else ("latex",)
        return {k: self.at(path) for k, path in command.outputs.items() if k not in off}

    def log(self, command: Command[Any]) -> str:
        """A job's log."""
        return self.at(f"logs/{command.log}.log")

    def benchmark(self, command: Command[Any]) -> str:
        """A job's time as Snakemake measures it; its memory is in its record.

        Of a job that :mod:`coto.job_server` runs Snakemake sees only the client that waits.
        """
        return self.at(f"benchmarks/{command.log}.tsv")

    @cached_property
    def shell(self) -> str:
        """The command line of every job."""
        return (
            "python -m coto {params.command} --settings {params.settings:q}"
            f" --root {shlex.quote(self.results)} --threads {{threads}} --code {{params.code}}"
            " --outputs {output:q} --log {log:q} --attempt {resources.attempt}"
        )

    # --- measurements -------------------------------------------------------------------------

    def inputs(self, measurement: Measurement[Any]) -> Of:
        """Input function of a measurement's rule."""

        def of(wildcards: Wildcards) -> dict[str, list[str]]:
            kinds = measurement.inputs(self.plan, _cell(wildcards))
            return {
                kind: [file if os.path.isabs(file) else self.at(file) for file in files]  # noqa: PTH117
                for kind, files in kinds.items()
                if files
            }

        return of

    def settings(self, measurement: Measurement[Any]) -> Of:
        """A job's settings: one canonical JSON string."""
        return lambda wildcards: canonical(measurement.build(self.plan, _cell(wildcards)))

    def code(self, measurement: Measurement[Any]) -> Of:
        """Fingerprint of a job's code."""

        def of(wildcards: Wildcards) -> str:
            more = measurement.code(self.plan, _cell(wildcards))
            return _fingerprint(measurement.code_of_run, *more)

        return of

    @property
    def small_job(self) -> dict[str, Callable[..., Any]]:
        """What a cluster reserves for a job without a model, two nested Snakemakes among it."""
        return {
            "mem_mb": lambda w, attempt: 2000 * attempt,
            "runtime": lambda w, attempt: 30 * attempt,
            **_EVERY_JOB,
        }

    def group(self, command: Command[Any], workflow: Any) -> Of:
        """The group of jobs that share a cluster's job, where they are short; None on one machine.

        The profile gives a group one `slot`, so that its jobs run one after another.
        """
        uses_model = isinstance(command, Measurement) and command.uses_model

        def of(wildcards: Wildcards) -> str | None:
            short = not uses_model or self.plan.suites[wildcards.suite].jobs.short
            on_cluster = not workflow.local_exec and workflow.is_main_process
            return f"short_{command.name}" if short and on_cluster else None

        return of

    def resources(self, measurement: Measurement[Any]) -> dict[str, Callable[..., Any]]:
        """What a cluster reserves for a job; a repeated attempt asks for more.

        Snakemake leaves out what is None.
        """
        if not measurement.uses_model:
            return self.small_job
        jobs = lambda w: self.plan.suites[w.suite].jobs  # noqa: E731
        on_gpu = self.plan.config.device == "cuda"
        trains = measurement.name == "train"
        return {
            "mem_mb": lambda w, attempt: jobs(w).memory_of(attempt),
            "runtime": lambda w, attempt: jobs(w).minutes_of(attempt),
            **_EVERY_JOB,
            "gpu": lambda w: (jobs(w).gpus if trains else 1) if on_gpu else 0,
            "gpu_model": lambda w: jobs(w).gpu_model if on_gpu else None,
            # Without it SLURM may spread the GPUs of one job over nodes.
            "nodes": lambda w: 1 if on_gpu else None,
        }

    def records(self, *suites: str) -> list[str]:
        """All records of some suites, or of all that are no study's."""
        found = all_records(self.plan, list(suites or self.plan.config.suites))
        return [self.at(path) for one in found.values() for path in one.paths()]

    # --- the report ---------------------------------------------------------------------------

    @cached_property
    def reports(self) -> Mapping[str, "Report"]:
        """The jobs of the report by their targets: ``table_shapley``, ``claims``, a study …"""
        config, plan = self.plan.config, self.plan
        suites = sorted(config.suites)
        judged = statistics_of(plan, {suite: plan.facts(suite) for suite in suites})
        used = {n: config.strategies[n] for s in suites for n in config.suites[s].strategies}
        found: dict[str, Report] = {}
        shared: dict[str, Any]
        for name, table in TABLES.items():
            shared = {"records": records_of(plan, table.needs, suites), "statistics": judged}
            settings = TableSettings(table=name, style=config.report.tables, **shared)
            found[f"table_{name}"] = Report("table", name, settings, table.code)
        for name, figure in FIGURES.items():
            shared = {"records": records_of(plan, figure.needs, suites), "statistics": judged}
            shared |= {"style": config.report.figures, "strategies": used}
            drawn = FigureSettings(figure=name, **shared)
            found[f"figure_{name}"] = Report("figure", name, drawn, figure.code)
        untestable = judged.model_copy(update={"impossible": impossible(plan)})
        every = ReportSettings(records=all_records(plan, suites), statistics=untestable)
        found["claims"] = Report("claims", "", every, "coto.findings:CLAIMS.add")
        runs, edge = records_of(plan, ("train",), suites), config.report.learning_rate_edge
        rates = RatesSettings(records=runs, edge=edge)
        found["learning_rates"] = Report("learning_rates", "", rates)
        for name in plan.studied:
            found[name] = Report("study", name, self._study(name))
        return found

    def _study(self, name: str) -> StudySettings:
        plan, variants = self.plan, self.plan.studied[name]
        suites = list(variants)
        first = plan.suites[suites[0]]
        stages = ("trajectory",) if first.train.snapshots else ()
        arms = [(adapter, strategy) for adapter in first.adapters for strategy in first.strategies]
        return StudySettings(
            study=name,
            records=all_records(plan, suites),
            # The suites of a study have the same facts.
            statistics=statistics_of(plan, {name: plan.facts(suites[0])}),
            axes=tuple(
                Axes(
                    suite=name,
                    home=variant.home,
                    share=variant.share,
                    stages=stages,
                    grids={f"{a}-{s}": plan.grid(name, a, s) for a, s in arms},
                )
                for name, variant in variants.items()
            ),
            tables=plan.config.report.tables,
            figures=plan.config.report.figures,
        )

    def report_inputs(self, target: str) -> list[str]:
        """Records that a job of the report reads, and what lies beside them."""
        report = self.reports[target]
        sets = dict(report.settings.records)
        if report.command == "claims":
            # Every item's answer, of all training runs.
            beside = sets["train"].template.replace("train.json", "answers.parquet")
            sets["answers"] = sets["train"].model_copy(update={"template": beside})
        return [self.at(path) for one in sets.values() for path in one.paths()]

    def report_code(self, target: str) -> str:
        """Fingerprint of a job of the report."""
        report = self.reports[target]
        return _fingerprint(REPORTS[report.command].code_of_run, *filter(None, [report.code]))

    def report_settings(self, target: str) -> str:
        """A job's settings: one canonical JSON string."""
        return canonical(self.reports[target].settings)

    @staticmethod
    def target(kind: str, name: str) -> str:
        """The target of a table, figure or study."""
        return name if kind == "study" else f"{kind}_{name}"

    @staticmethod
    def category(kind: str) -> Of:
        """Where the report lists a table, figure or study: what shows the claims, beside them."""

        def of(wildcards: Wildcards) -> str:
            if kind == "figure" and CLAIMS in FIGURES[wildcards.figure].needs:
                return "Claims"
            return {"table": "Tables", "figure": "Figures", "study": "Studies"}[kind]

        return of

    def all_of(self, kind: str) -> list[str]:
        """Files of all tables, or of all figures."""
        names = [name for name, report in self.reports.items() if report.command == kind]
        return [file for name in names for file in self.made(name)]

    def refused(self) -> list[str]:
        """What a complete run makes only to refuse learning rates at an end of their grids."""
        asked = self.plan.config.report.learning_rate_edge == "error"
        return self.made("learning_rates") if asked else []

    def made(self, target: str) -> list[str]:
        """Files of a job of the report."""
        report = self.reports[target]
        paths = self.outputs(REPORTS[report.command]).values()
        return [path.format(**{report.command: report.name}) for path in paths]

    def targets(self) -> dict[str, list[str]]:
        """Files by the names that a person asks for: single tables and figures, also by the
        authors' number; suites; and what there is of the authors' studies."""
        names = {target: target for target in self.reports if target not in REPORTS}
        for kind, catalogue in (("table", TABLES), ("figure", FIGURES)):
            numbered = [one for one in catalogue.values() if one.rebuttal]
            names |= {f"{kind}_{one.rebuttal}": f"{kind}_{one.name}" for one in numbered}
        names |= {k: study for k, study in REBUTTAL_STUDIES.items() if study in self.reports}
        return {
            **{target: self.made(name) for target, name in names.items()},
            **{suite: self.records(suite) for suite in self.plan.config.suites},
        }

    def captions(self) -> dict[str, str]:
        """Captions of tables and figures by their path under the results folder."""
        return {
            **{f"tables/{name}.csv": one.caption for name, one in TABLES.items()},
            **{f"figures/{name}.svg": one.caption for name, one in FIGURES.items()},
        }


@dataclass(frozen=True)
class Report:
    """A job of the report: its command, the table, figure or study, its settings, and its code.

    The code is what the command looks up by name.
    """

    command: str
    name: str
    settings: Reading
    code: str = ""


# Resources that tell a job which attempt it is, and a group how many of its jobs run at a time.
_EVERY_JOB: dict[str, Callable[..., Any]] = {
    "attempt": lambda w, attempt: attempt,
    "slot": lambda w: 1,
}
JOB = "coto.measurements.base:Job"
"""What every job is given, as fingerprints name it."""
_FIELDS = {field.name for field in fields(Cell)}


@cache
def _fingerprint(*code: str) -> str:
    """The fingerprint of code; ``package:REGISTRY.add`` stands for all such statements in it."""
    items = [JOB]
    for item in code:
        package, _, name = item.partition(":")
        if name.endswith(".add"):
            items += registrations(name.removesuffix(".add"), package)
        else:
            items.append(item)
    return fingerprint(*items)


def _cell(wildcards: Wildcards) -> Cell:
    return Cell(**{k: v for k, v in dict(wildcards.items()).items() if k in _FIELDS})
