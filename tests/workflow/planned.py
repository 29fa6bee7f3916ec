"""All jobs of a configuration with what Snakemake compares of them, and which an edit reruns.

Snakemake reruns a job whose parameters, inputs or outputs changed, and everything after it. This
computes the same from the rules' own functions, in milliseconds instead of seconds per dry-run;
`test_workflow` checks on a finished run that Snakemake agrees.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from types import SimpleNamespace

from coto.config.plan import Plan
from coto.findings.jobs import REPORTS
from coto.measurements import MEASUREMENTS
from coto.measurements.base import Cell
from coto.workflow.rules import Rules

ON_REQUEST = {"study", "learning_rates"}
"""Jobs of the report that a complete run leaves out."""


@dataclass(frozen=True)
class Planned:
    """A job: its rule and wildcards."""

    rule: str
    wildcards: frozenset[tuple[str, str]] = frozenset()

    def __getattr__(self, name: str) -> str | None:
        return dict(self.wildcards).get(name)


@dataclass(frozen=True)
class Read:
    """What Snakemake compares of a job."""

    settings: str
    code: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


class _Wildcards(SimpleNamespace):
    def items(self) -> Iterable[tuple[str, str]]:
        return vars(self).items()


def jobs_of(plan: Plan) -> dict[Planned, Read]:
    """Every job that a plan needs for its tables, figures and claims."""
    ask, found = Rules(plan), {}
    for name, measurement in MEASUREMENTS.items():
        cells = [c for suite in plan.config.suites for c in measurement.cells(plan, suite)]
        if name == "convert":
            suites = plan.config.suites.values()
            cells = [
                Cell(backbone=one)
                for one in {s.backbone for s in suites}
                if plan.config.backbones[one].wheel
            ]
        elif name == "corpora":
            cells = [Cell()]
        for cell in cells:
            wildcards = _Wildcards(**{k: v for k, v in asdict(cell).items() if v})
            inputs = ask.inputs(measurement)(wildcards)
            found[Planned(name, frozenset(wildcards.items()))] = Read(
                ask.settings(measurement)(wildcards),
                ask.code(measurement)(wildcards),
                tuple(file for files in inputs.values() for file in files),
                tuple(ask.at(measurement.path(cell, output)) for output in measurement.outputs),
            )
    for target, report in ask.reports.items():
        if report.command in ON_REQUEST:
            continue
        place = frozenset([(report.command, report.name)] if report.name else [])
        found[Planned(report.command, place)] = Read(
            ask.report_settings(target),
            ask.report_code(target),
            tuple(ask.report_inputs(target)),
            tuple(ask.made(target)),
        )
    return found


def rerun(before: Mapping[Planned, Read], after: Mapping[Planned, Read]) -> set[Planned]:
    """The jobs of `after` that run when those of `before` are done."""
    changed = {job for job, read in after.items() if before.get(job) != read}
    made_anew: set[str] = set()
    while True:
        made_anew |= {path for job in changed for path in after[job].outputs}
        more = {
            job
            for job, read in after.items()
            if job not in changed and made_anew & set(read.inputs)
        }
        if not more:
            return changed
        changed |= more


RECORDS = {
    record: measurement.name
    for measurement in MEASUREMENTS.values()
    for record in measurement.columns
}
"""Which measurement makes a record."""
REPORT = set(REPORTS) - ON_REQUEST
