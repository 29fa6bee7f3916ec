"""Comparisons as text for people: a line per place, a column per strategy."""

import math
from typing import Any

import pandas as pd

from coto.report.quantities import BASELINE, ranked

FLAG = " †"
UNTRAINED = "no training"
UNDEFINED = "—"
# Units: fractions are shown as percent, shares of runs as counts, all else as it is.
FRACTION, RUNS = "fraction", "runs"


def cell(
    mean: float,
    decimals: int,
    bounds: tuple[float, float] = (math.nan, math.nan),
    *,
    signed: bool = False,
    scale: float = 100.0,
    sd: float = math.nan,
) -> str:
    """A fraction as percent with its interval: ``82.1 [80.0, 84.2]``; a bare mean without one.

    Args:
        mean: the number; NaN gives an empty text.
        decimals: of the text.
        bounds: of the interval.
        signed: write the sign of positive numbers too.
        scale: what to multiply with; 1 for what is no fraction.
        sd: standard deviation, shown after the mean: ``82.1 ± 0.4``.
    """
    if not math.isfinite(mean):
        return ""
    form = f"{'+' if signed else ''}z.{decimals}f"
    text = format(scale * mean, form)
    if math.isfinite(sd):
        text += f" ± {scale * sd:.{decimals}f}"
    if math.isfinite(bounds[0]):
        text += f" [{format(scale * bounds[0], form)}, {format(scale * bounds[1], form)}]"
    return text


def side_by_side(tidy: pd.DataFrame, index: dict[str, str], decimals: int) -> pd.DataFrame:
    """Text of a comparison: one line per place, one column per strategy, then the differences.

    Lines of kind ``baseline`` are no strategies: their numbers stand in a column of their own.
    Those of kind ``gap`` say that an operator is not defined there.

    Args:
        tidy: lines of ``compare``, and where they are no fractions, their ``unit``.
        index: columns that identify a line, with their headings. ``suite`` is shown only where
            there are several.
        decimals: of percentages.
    """
    if tidy["suite"].nunique() > 1:
        index = {"suite": "suite", **index}
    untrained = tidy["kind"] == "baseline"
    strategies = ranked("strategy", list(tidy.loc[~untrained, "strategy"]))
    lines = []
    for _, place in tidy.groupby(["suite", *(c for c in index if c != "suite")], sort=False):
        first, measured = place.iloc[0], place[place["kind"] == "measured"]
        line: dict[str, str] = {heading: str(first[column]) for column, heading in index.items()}
        line["seeds"] = str(int(measured["n_seeds"].min())) if len(measured) else ""
        for _, arm in place.iterrows():
            column = UNTRAINED if arm["kind"] == "baseline" else arm["strategy"]
            line[column] = _text(arm, decimals)
            if math.isfinite(arm["difference"]):
                bounds = (arm["difference_low"], arm["difference_high"])
                form = _form(arm, decimals)
                line[_against(column)] = cell(arm["difference"], bounds=bounds, signed=True, **form)
        line["source"] = first["source"]
        lines.append(line)
    compared = set(tidy.loc[tidy["difference"].notna(), "strategy"])
    columns = [*index.values(), "seeds", *([UNTRAINED] if untrained.any() else []), *strategies]
    columns += [_against(name) for name in strategies if name in compared]
    return pd.DataFrame(lines, columns=[*columns, "source"]).fillna("")


def _against(strategy: str) -> str:
    return f"{strategy} − {BASELINE}"


def _form(line: pd.Series, decimals: int) -> dict[str, Any]:
    if line.get("unit", FRACTION) == FRACTION:
        return {"decimals": decimals}
    return {"decimals": decimals + 2, "scale": 1.0}


def _text(line: pd.Series, decimals: int) -> str:
    if line["kind"] == "gap":
        return UNDEFINED
    if line.get("unit") == RUNS:
        return f"{round(line['mean'] * line['n_values'])} of {line['n_values']}"
    bounds, sd = (line["low"], line["high"]), line.get("repeat_sd", math.nan)
    text = cell(line["mean"], bounds=bounds, sd=sd, **_form(line, decimals))
    return text + (FLAG if line["flagged"] else "")
