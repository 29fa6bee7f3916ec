"""What no adapter gives, beside trained scores: guessing, a probe, runs without their adapters."""

from typing import Any

import pandas as pd

from coto.config.models import Tables
from coto.findings.answers import BESIDE
from coto.report import quantities, tables
from coto.report.comparison import AVERAGE, compare
from coto.report.quantities import headline, ranked
from coto.report.records import Frames
from coto.report.settings import Settings
from coto.report.tables import cell

# In the order in which they are shown.
METHODS = {
    "random": "random guessing",
    "majority": "majority class",
    "zero-shot": "zero-shot",
    "probe": "probe",
}
CSV_ONLY = ("random guessing",)
# By the kind of the lines that it explains.
NOTES = {
    "baseline": "majority class answers every item with what is most frequent in the training part "
    "(in the test part, where training has no such items); zero-shot is the bare backbone; probe "
    "is logistic regression on the frozen backbone's features (of a language model, where the "
    "answer begins), its regularisation chosen on the validation part. The CSV also has random "
    "guessing.",
    "none": "none: the same runs with all of their adapters removed, which leaves the bare "
    "backbone and the trained head.",
}


def with_none(tidy: pd.DataFrame, frames: Frames, settings: Settings) -> pd.DataFrame:
    """Append lines of kind ``none``: every arm's scores with all of its adapters removed."""
    if frames.get("none") is None or frames["none"].empty:
        return tidy
    rows = quantities.worth_of_adapters(frames)
    if rows.empty:
        return tidy
    lines = compare(rows.rename(columns={"none": "value"}), settings, differences=False)
    known = tidy[["suite", "task", "metric"]].drop_duplicates()
    lines = lines.drop(columns="metric").merge(known, how="left", on=["suite", "task"])
    return pd.concat([tidy, lines.assign(kind="none")[list(tidy)]], ignore_index=True)


def with_baselines(tidy: pd.DataFrame, baseline: pd.DataFrame | None) -> pd.DataFrame:
    """Append lines of kind ``baseline`` from its rows; their ``adapter`` is the method's name.

    They are single values per task, without seeds, interval and difference, and have an average
    where every task of the suite has a value.
    """
    if baseline is None or baseline.empty:
        return tidy
    lines: list[dict[str, Any]] = []
    for suite, trained in tidy.groupby("suite", sort=False):
        trained = trained[trained["kind"] == "measured"]
        average = trained[trained["task"] == AVERAGE]
        for method, name in METHODS.items():
            rows = baseline[(baseline["suite"] == suite) & (baseline["method"] == method)]
            rows = headline(rows).sort_values("task")
            values = rows[["task", "metric", "value", "n"]].to_numpy().tolist()
            if len(average) and {AVERAGE, *rows["task"]} == set(trained["task"]):
                ends = rows["value"].mean(), rows["n"].sum()
                values.append([AVERAGE, average["metric"].iloc[0], *ends])
            place = {"suite": suite, "adapter": name, "strategy": method}
            place |= {"kind": "baseline", "flagged": 0, "source": "this run"}
            columns = ("task", "metric", "mean", "n_test")
            lines += [place | dict(zip(columns, line, strict=True)) for line in values]
    return tables.append_lines(tidy, lines)


def displayed(lines: pd.DataFrame, style: Tables) -> pd.DataFrame:
    """One line per adapter kind and task: what no adapter gives, then the trained arms."""
    beside = lines["kind"].isin([*NOTES])
    index = {"adapter": "adapter", "task": "task", "metric": "metric"}
    display = tables.side_by_side(lines[~beside], index, style.decimals)
    known: dict[str, dict[tuple[str, ...], str]] = {}
    for _, line in lines[beside].iterrows():
        suite, task, strategy = str(line["suite"]), str(line["task"]), str(line["strategy"])
        place: tuple[str, ...] = (suite, task)
        heading = METHODS.get(strategy, strategy)
        if line["kind"] == "none":
            place, heading = (suite, task, str(line["adapter"])), none_of(strategy)
        known.setdefault(heading, {})[place] = cell(line["mean"], style.decimals)
    arms = ranked("strategy", list(lines.loc[lines["kind"] == "none", "strategy"]))
    columns = [name for name in METHODS.values() if name in known] + [none_of(arm) for arm in arms]
    suites = display.get("suite", pd.Series(str(lines["suite"].iloc[0]), index=display.index))
    at = list(zip(suites, display["task"], display["adapter"], strict=True))
    # Known by the headline only: nothing stands beside another metric.
    second = display["metric"].isin(BESIDE)
    for shift, heading in enumerate(name for name in columns if name not in CSV_ONLY):
        texts = [known[heading].get(p, known[heading].get(p[:2], "")) for p in at]
        text = pd.Series(texts, index=display.index).mask(second, "")
        display.insert(list(display).index("seeds") + 1 + shift, heading, text)
    return display


def none_of(strategy: str) -> str:
    """Heading of the column of an arm's runs without their adapters."""
    return f"none ({strategy})"
