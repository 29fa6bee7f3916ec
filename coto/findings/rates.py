"""Learning rates: what was tried, what does best, and whether a better one may lie beyond."""

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd
import yaml

from coto.config import paths
from coto.config.models import Tables
from coto.report import quantities, tables
from coto.report.comparison import AVERAGE, compare
from coto.report.quantities import ARM, TRAINED, headline
from coto.report.records import Frames
from coto.report.settings import Settings, descriptions
from coto.report.tables import cell, table
from coto.report.writing import Table

RULE = (
    "best: of the rates that an arm was trained with, the one with the highest mean over the "
    "tasks' validation parts, each the mean over its seeds; ties go to the smaller rate. The test "
    "part has no say."
)
USED = "used: the rate that the run goes on with, chosen for each task of an arm by itself."
ONE_RATE = "One learning rate per arm: there was nothing to choose in this run."
EDGE = (
    "‡ at an end of the rates that were tried: a better one may lie beyond. An optimum that is "
    "known lies between two others."
)
_ARM = ["suite", "adapter", "strategy"]
_END = {"lower": "downwards", "upper": "upwards"}


def validation_scores(train: pd.DataFrame) -> pd.DataFrame:
    """Headline scores on the validation parts."""
    rows = headline(train)
    return rows[rows["split"] == "validation"]


def searched(train: pd.DataFrame) -> pd.DataFrame:
    """The best rate of every arm (:data:`RULE`), of all arms that were trained with several.

    Returns:
        One row per arm: ``suite, adapter, strategy, lr``, the ``grid``, ascending, and at which
        ``end`` of it the best rate is: ``lower``, ``upper``, or empty where it is inside.
    """
    rows = validation_scores(train)
    # A mean of seeds first, so that tasks weigh equally.
    per_task = rows.groupby([*_ARM, "lr", "task"])["value"].mean()
    means = per_task.groupby([*_ARM, "lr"]).mean().reset_index()
    found: list[dict[str, Any]] = []
    for arm, of_arm in means.groupby(_ARM):
        tried = of_arm.sort_values("lr", ignore_index=True)
        grid = [float(rate) for rate in tried["lr"]]
        if len(grid) > 1:
            best = grid[int(tried["value"].argmax())]  # the first of equal ones
            place = dict(zip(_ARM, arm, strict=True))
            found.append({**place, "lr": best, "grid": tuple(grid), "end": _end(best, grid)})
    return pd.DataFrame(found, columns=[*_ARM, "lr", "grid", "end"])


def _end(rate: float, grid: list[float]) -> str:
    ends = {min(grid): "lower", max(grid): "upper"}
    return ends.get(rate, "") if len(grid) > 1 else ""


def beyond(train: pd.DataFrame) -> list[str]:
    """One line for each arm whose best rate is at an end of its grid: the key, and what to do."""
    lines = []
    for _, arm in searched(train).iterrows():
        if arm["end"]:
            grid = ", ".join(map(paths.number, arm["grid"]))
            lines.append(
                f"suites.{arm['suite']}.learning_rates.{arm['adapter']}-{arm['strategy']} = "
                f"[{grid}]: {paths.number(arm['lr'])} does best, the {arm['end']} end; expected "
                f"the best rate inside the grid: extend it {_END[arm['end']]}"
            )
    return lines


def in_config_form(train: pd.DataFrame) -> str:
    """The best rate of every arm as a configuration has it; an end of a grid is remarked."""
    best, suites = searched(train), dict[str, Any]()
    for suite, arms in best.groupby("suite", sort=False):
        names = arms["adapter"] + "-" + arms["strategy"]
        rates = dict(zip(names, arms["lr"], strict=True))
        suites[str(suite)] = {"learning_rates": {name: [rate] for name, rate in rates.items()}}
    text = yaml.safe_dump({"suites": suites}, sort_keys=False, default_flow_style=None)
    return "".join(f"# {line}\n" for line in (RULE, *beyond(train))) + text


def edge_note(frames: Mapping[str, pd.DataFrame], suites: set[str]) -> str:
    """A note for every table that quotes an arm whose chosen rate is at an end of its grid."""
    named = []
    for place, runs in frames["select"].groupby(TRAINED, sort=False):
        suite, task, adapter, strategy = place
        grid = sorted(runs["lr"].unique())
        (rate,) = runs.loc[runs["selected"].astype(bool), "lr"].unique()
        if suite in suites and (end := _end(rate, grid)):
            name = f"{suite} {adapter}-{strategy} on {task}"
            named.append(f"{name} ({paths.number(rate)}, the {end} end)")
    return f"{EDGE} Here: {'; '.join(named)}." if named else ""


@table("learning_rate", needs=("train", "select"))
def learning_rate(frames: Frames, settings: Settings, style: Tables) -> Table:
    """Validation score of every learning rate that was tried, what does best, and what is used.

    The test part has no say in the choice. A best rate at an end of its grid is flagged.
    """
    title = "Learning rates, chosen on the validation part"
    rows = validation_scores(frames["train"])
    if rows.empty:
        return tables.empty(title, "No validation scores.")
    tidy = compare(rows, settings, ["lr"])
    spread = rows.groupby([*ARM, "lr"])["value"].agg(lowest="min", highest="max").reset_index()
    per_seed = rows.groupby([*_ARM, "lr", "seed"])["value"].mean()
    averages = per_seed.groupby([*_ARM, "lr"]).agg(lowest="min", highest="max").reset_index()
    spread = pd.concat([spread, averages.assign(task=AVERAGE)])
    tidy = tidy.merge(spread, on=[*ARM, "lr"], how="left")
    tidy = _marked(tidy, frames)
    order = ["suite", "adapter", "task", "strategy", "lr"]
    tidy = tables.ordered(tidy.sort_values(order, kind="stable"))
    display = tables.displayed(
        {
            **{name: line[name] for name in ("suite", "adapter", "task", "strategy")},
            "learning rate": f"{line['lr']:g}",
            "validation score": cell(line["mean"], style.decimals),
            "seeds, lowest to highest": _range(line, style),
            "seeds": str(line["n_seeds"]),
            "best": f"yes{' ‡' * bool(line['end'])}" if line["best"] else "",
            "used": "yes" if line["selected"] else "",
        }
        for _, line in tidy.iterrows()
    )
    several = tidy.groupby(ARM)["lr"].nunique().max() > 1
    notes = [RULE, USED, *([EDGE] if (tidy["end"] != "").any() else [])] if several else [ONE_RATE]
    suites = list(dict.fromkeys(tidy["suite"]))
    return Table(title, tidy, display, ("Percent.", *notes, *descriptions(suites, settings)))


def _range(line: pd.Series, style: Tables) -> str:
    if line["n_seeds"] < 2:
        return ""
    low, high = (cell(line[name], style.decimals) for name in ("lowest", "highest"))
    return f"{low} to {high}"


def _marked(tidy: pd.DataFrame, frames: Frames) -> pd.DataFrame:
    """Add ``selected``: used for the task; ``best``: of the arm over its tasks; and ``end``."""
    used = quantities.final_runs(frames["train"], frames["select"])[[*ARM, "lr"]]
    tidy = tidy.merge(used.drop_duplicates().assign(selected=True), on=[*ARM, "lr"], how="left")
    best = searched(frames["train"])[[*_ARM, "lr", "end"]].assign(best=True)
    tidy = tidy.merge(best, on=[*_ARM, "lr"], how="left")
    several = tidy.groupby(["suite", "adapter"])["task"].transform("nunique") > 1
    over_all = (tidy["task"] == AVERAGE) | ~several
    tidy["selected"] = tidy["selected"].eq(True)
    # Of all tasks together, the rate that each of them uses.
    average = tidy["task"] == AVERAGE
    used_by_all = (
        tidy[~average].groupby([*_ARM, "lr"])["selected"].all().rename("all").reset_index()
    )
    by_all = tidy.merge(used_by_all, on=[*_ARM, "lr"], how="left")["all"]
    tidy["selected"] = tidy["selected"].where(~average, by_all)
    tidy["best"] = tidy["best"].eq(True) & over_all
    tidy["end"] = tidy["end"].fillna("").where(tidy["best"], "")
    return tidy


def report_lines(train: pd.DataFrame) -> Iterator[str]:
    """The best rates, one line per arm, for the log."""
    for _, arm in searched(train).iterrows():
        grid = ", ".join(map(paths.number, arm["grid"]))
        name = f"{arm['suite']}, {arm['adapter']}-{arm['strategy']}"
        yield f"{name}: {paths.number(arm['lr'])} of {grid}"
