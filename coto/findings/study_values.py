"""What a study's records say: of each of its suites, one value per task, arm, quantity and seed."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from coto.config import paths
from coto.findings.merging.quantities import midpoints, thirds, three_way
from coto.findings.pruning import pruned_mean, structured
from coto.findings.study_paper import EVERY_OTHER, GENERALIZATION, HALF, PRUNING, Form
from coto.report import quantities
from coto.report.quantities import ARM, headline
from coto.report.records import Frames
from coto.report.settings import Axes

_SNAPSHOTS = {
    **{"single": GENERALIZATION, "merge 1:1": HALF},
    **{"prune odd": EVERY_OTHER, "prune even": EVERY_OTHER},
}
_COLUMNS = [*ARM, "lr", "share", "quantity", "seed", "value", "flag"]


def form_of(axes: Sequence[Axes]) -> Form:
    """What varies in a study, from the axes of its suites."""
    if any(suite.share is not None for suite in axes):
        return "lengths"
    if any("trajectory" in suite.stages for suite in axes):
        return "schedules"
    return "rates" if len(axes) > 1 else "strategies"


def rate_of(suite: Axes) -> float:
    """The learning rate that all arms of a suite have in common; NaN where they have several."""
    rates = {float(rate) for grid in suite.grids.values() for rate in grid}
    return rates.pop() if len(rates) == 1 else float("nan")


def values_of(frames: Frames, axes: Sequence[Axes]) -> pd.DataFrame:
    """One value per (suite, task, adapter, strategy, share, quantity, seed)."""
    frames = {**frames, "train": runs_of(frames["train"], axes)}
    path, prune = frames["interpolate"], frames["prune"]
    merged = {"merging 1:2": thirds(path), HALF: midpoints(path), "merging 1:1:1": three_way(path)}
    scores = {
        GENERALIZATION: quantities.single_scores(frames),
        **{name: rows[rows["operator"] == "fusion"] for name, rows in merged.items()},
        PRUNING: pruned_mean(prune),
    }
    # Both parities of every other layer count as one, as elsewhere.
    modes = structured(prune)
    kinds = modes["keep"].replace({"odd": "everyother", "even": "everyother"})
    for kind, rows in modes.assign(keep=kinds).groupby("keep"):
        scores[f"pruning {kind}"] = rows.groupby([*ARM, "seed"])["value"].mean().reset_index()
    parts = [rows.assign(quantity=name, share=np.nan) for name, rows in scores.items() if len(rows)]
    if len(frames["trajectory"]):
        rows = quantities.labelled(headline(frames["trajectory"]))
        rows = rows.assign(quantity=rows["quantity"].map(_SNAPSHOTS))
        place = [*ARM, "share", "quantity", "seed"]
        parts.append(rows.groupby(place)["value"].mean().reset_index())
    every = pd.concat(parts).reindex(columns=_COLUMNS)
    return every.assign(flag=every["flag"].fillna("")).reset_index(drop=True)


def runs_of(rows: pd.DataFrame, axes: Sequence[Axes]) -> pd.DataFrame:
    """Rows of runs with the name of the study's suite that each belongs to.

    Their records have the name of the suite in whose folder they lie; the rate tells apart what
    several suites of the study have there.
    """
    parts = []
    for suite in axes:
        home = suite.home or suite.suite
        found = rows[rows["suite"] == home]
        if home != suite.suite:
            arms = found["adapter"] + "-" + found["strategy"]
            pairs = zip(found["lr"], arms, strict=True)
            found = found[[paths.number(lr) in suite.grids.get(arm, ()) for lr, arm in pairs]]
        parts.append(found.assign(suite=suite.suite))
    return pd.concat(parts, ignore_index=True)
