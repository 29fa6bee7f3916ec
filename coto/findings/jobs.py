"""The jobs that make tables, figures, claims and studies from records."""

import logging
from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Any, Literal

from coto.config.models import Facts, Figures, Strategy, Tables
from coto.config.plan import Plan
from coto.measurements.base import MEASUREMENTS, Command, Job
from coto.registry import Registry
from coto.report.settings import Axes
from coto.report.settings import Settings as Statistics
from coto.settings import Model

log = logging.getLogger(__name__)

CLAIMS = "claims"
"""The job that judges; what it writes is a record like others to the figure that shows it."""


class RecordSet(Model):
    """Records by the template of their paths: every combination of every block's values."""

    template: str
    blocks: tuple[dict[str, tuple[str, ...]], ...]

    def paths(self) -> list[str]:
        """All paths, under the results folder."""
        return [
            self.template.format(**dict(zip(block, values, strict=True)))
            for block in self.blocks
            for values in product(*block.values())
        ]


class Reading(Model):
    """Which records are read; paths would not fit on a command line."""

    records: dict[str, RecordSet]


class ReportSettings(Reading):
    """Which records are read, and how they are judged."""

    statistics: Statistics


class TableSettings(ReportSettings):
    """One table."""

    table: str
    style: Tables


class FigureSettings(ReportSettings):
    """One figure."""

    figure: str
    strategies: dict[str, Strategy]
    style: Figures


class RatesSettings(Reading):
    """The learning rates that do best."""

    edge: Literal["flag", "error"]


class StudySettings(ReportSettings):
    """A study's table and figure."""

    study: str
    axes: tuple[Axes, ...]
    tables: Tables
    figures: Figures


def make_table(job: Job[TableSettings]) -> None:
    """Write one table as CSV, Markdown and LaTeX."""
    from coto.findings import make

    settings = job.settings
    stem = job.outputs["csv"].with_suffix("")
    make.make_table(settings.table, _records(job), stem, settings.style, settings.statistics)


def make_figure(job: Job[FigureSettings]) -> None:
    """Write one figure as PNG and SVG."""
    from coto.findings import make

    settings, stem = job.settings, job.outputs["png"].with_suffix("")
    looks = (settings.strategies, settings.style, settings.statistics)
    make.make_figure(settings.figure, _records(job), stem, *looks)


def make_claims(job: Job[ReportSettings]) -> None:
    """Write a verdict on each claim of the paper; its log says the outcome in two sentences."""
    from coto.findings import make
    from coto.findings.outcome import lines, words

    folder = job.outputs["markdown"].parent
    make.make_claims(_records(job), folder, job.settings.statistics, answers=True)
    log.info("%s", words.headline(lines.lines_of(lines.read_rows(job.outputs["json"]))))


def make_rates(job: Job[RatesSettings]) -> None:
    """Write the learning rates that do best, in the form of a configuration."""
    from coto.findings import make

    make.make_rates(_records(job), job.outputs["yaml"], job.settings.edge)


def make_study(job: Job[StudySettings]) -> None:
    """Write a study's table and figure."""
    from coto.findings import make

    settings, folder = job.settings, job.outputs["csv"].parent
    looks = (settings.tables, settings.figures, settings.statistics)
    make.make_study(settings.study, settings.axes, _records(job), folder, *looks)


def _records(job: Job[Any]) -> dict[str, list[Path]]:
    return {
        name: [job.root / path for path in one.paths()]
        for name, one in job.settings.records.items()
    }


def records_of(plan: Plan, names: tuple[str, ...], suites: list[str]) -> dict[str, RecordSet]:
    """The records of some names that suites have; by :data:`CLAIMS`, the verdicts on them all."""
    found = {
        name: RecordSet(
            template=measurement.outputs[name],
            blocks=tuple(
                {key: tuple(values) for key, values in block.items()}
                for suite in suites
                for block in measurement.blocks_of(plan, suite)
            ),
        )
        for measurement in MEASUREMENTS.values()
        for name in measurement.columns
        if name in names
    }
    if CLAIMS in names:
        found[CLAIMS] = RecordSet(template=REPORTS[CLAIMS].outputs["json"], blocks=({},))
    return found


def all_records(plan: Plan, suites: list[str]) -> dict[str, RecordSet]:
    """All records of suites."""
    names = [name for one in MEASUREMENTS.values() for name in one.columns]
    return records_of(plan, tuple(names), suites)


def statistics_of(plan: Plan, facts: Mapping[str, Facts]) -> Statistics:
    """How a report judges, and what its reader must know of its suites, or its study."""
    return Statistics(**plan.config.report.statistics.model_dump(), facts=facts)


REPORTS: Registry[Command[Any]] = Registry("report")

REPORTS.add(
    Command(
        name="table",
        summary="write one table",
        settings=TableSettings,
        outputs={
            "csv": "tables/{table}.csv",
            "markdown": "tables/{table}.md",
            "latex": "tables/{table}.tex",
        },
        run=make_table,
    )
)
REPORTS.add(
    Command(
        name="figure",
        summary="write one figure",
        settings=FigureSettings,
        outputs={"png": "figures/{figure}.png", "svg": "figures/{figure}.svg"},
        run=make_figure,
    )
)
REPORTS.add(
    Command(
        name=CLAIMS,
        summary="write the verdicts on the paper's claims",
        settings=ReportSettings,
        outputs={"markdown": "claims.md", "csv": "claims.csv", "json": "claims.json"},
        run=make_claims,
    )
)
REPORTS.add(
    Command(
        name="study",
        summary="write a study's table and figure",
        settings=StudySettings,
        outputs={
            "csv": "studies/{study}.csv",
            "markdown": "studies/{study}.md",
            "png": "studies/{study}.png",
            "svg": "studies/{study}.svg",
            "latex": "studies/{study}.tex",
        },
        run=make_study,
    )
)
REPORTS.add(
    Command(
        name="learning_rates",
        summary="write the learning rates that do best, and refuse an end of a grid",
        settings=RatesSettings,
        outputs={"yaml": "learning_rates.yaml"},
        run=make_rates,
    )
)
