"""Language models' answers by a second metric: what is left when one answer is simply preferred.

A model whose adapters were taken away in part may say yes to everything, and be right half of the
time. That one arm keeps its balance and the other does not is an effect, but a different one from
knowing the answers.
"""

from collections.abc import Callable, Mapping

import pandas as pd

from coto.config.models import Tables
from coto.findings.merging.quantities import midpoints
from coto.findings.pruning import every_other, structured
from coto.report import quantities, tables
from coto.report.claim import by_operator
from coto.report.quantities import RUN
from coto.report.records import Frames
from coto.report.settings import Settings
from coto.report.tables import Quantity, table
from coto.report.writing import Table

CALIBRATED = "accuracy_calibrated"
# Metrics of language models that stand beside the headline: what each takes out of it.
BESIDE = {
    "accuracy_norm": "answers ranked by log-likelihood per character, as sums prefer short ones.",
    CALIBRATED: "each answer's log-likelihood centred over the test part, so that a "
    "preference for one answer whatever is asked has no part in it.",
}
_METRICS = {"accuracy": "as they are", CALIBRATED: "calibrated"}


def _thirds(prune: pd.DataFrame) -> pd.DataFrame:
    """Mean over the three ways of keeping a third of the layers."""
    rows = structured(prune)
    rows = rows[rows["keep"].isin(["low", "middle", "high"])]
    return rows.groupby(RUN)["value"].mean().reset_index()


# What is looked at, by its name: the record, and its headline scores.
_STATES: Mapping[str, tuple[str, Callable[[pd.DataFrame], pd.DataFrame]]] = {
    "all adapters": ("train", quantities.headline),
    "every other layer": ("prune", every_other),
    "a third of the layers": ("prune", _thirds),
    "two seeds half-way": ("interpolate", lambda rows: by_operator(midpoints(rows), "fusion")),
}


@table("calibrated", needs=("train", "select", "prune", "interpolate"))
def calibrated(frames: Frames, settings: Settings, style: Tables) -> Table:
    """Accuracy as answers are, and with each candidate's log-likelihood centred over the test part.

    The second has no share in which answer a model prefers whatever it is asked, so that a gain in
    the first alone is a gain in balance. Every other layer is the mean of both parities, a third
    that of the three thirds, half-way between seeds A and B are averaged.
    """
    title = "Answers as they are, and with their bias taken out"
    known = {**frames, "train": quantities.test_scores(frames)}
    parts: list[Quantity] = []
    for name, (record, quantity) in _STATES.items():
        rows = known[record]
        if rows.empty:
            continue
        suites = rows.loc[rows["metric"] == CALIBRATED, "suite"].unique()
        for metric, label in _METRICS.items():
            of = rows[(rows["metric"] == metric) & rows["suite"].isin(suites)]
            found = quantity(of.assign(headline=True)) if len(of) else of
            parts.append(Quantity(name, found.assign(answers=label)))
    if not any(len(part.rows) for part in parts):
        return tables.empty(title, "No evaluation set of this run has the same answers throughout.")
    lines = tables.compared(parts, settings, ["answers"])
    lines["metric"] = lines["answers"].map({label: name for name, label in _METRICS.items()})
    headings = {"answers": "answers"}
    return tables.laid_out(title, lines, lines.iloc[:0], headings, settings, style)
