"""Comparisons as text for people: a line per place, a column per strategy."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import pandas as pd

from coto.config.models import Tables
from coto.report.comparison import compare, overall
from coto.report.paper import PaperValue, paper_value
from coto.report.quantities import ARM, BASELINE, ORDER, STRATEGY, ranked
from coto.report.records import Frames
from coto.report.settings import LEAST_SEEDS, Settings, descriptions
from coto.report.writing import Table

FLAG = " †"
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

    NaN gives an empty text; ``scale`` is 1 for what is no fraction; with ``sd``: ``82.1 ± 0.4``.
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

    Lines of kind ``gap`` say that an operator is not defined there. ``tidy`` has the lines of
    :func:`compare` and the ``unit`` of what is no fraction; ``index`` the headings of the columns
    that identify a line.
    """
    if tidy["suite"].nunique() > 1:
        index = {"suite": "suite", **index}
    strategies = ranked("strategy", list(tidy["strategy"]))
    lines = []
    for _, place in tidy.groupby(["suite", *(c for c in index if c != "suite")], sort=False):
        first, measured = place.iloc[0], place[place["kind"] == "measured"]
        line: dict[str, str] = {heading: str(first[column]) for column, heading in index.items()}
        line["seeds"] = str(int(measured["n_seeds"].min())) if len(measured) else ""
        for _, arm in place.iterrows():
            line[arm["strategy"]] = _text(arm, decimals)
            if math.isfinite(arm["difference"]):
                bounds = (arm["difference_low"], arm["difference_high"])
                gap = cell(arm["difference"], bounds=bounds, signed=True, **_form(arm, decimals))
                line[f"{arm['strategy']} − {BASELINE}"] = gap
        line["source"] = first["source"]
        lines.append(line)
    compared = set(tidy.loc[tidy["difference"].notna(), "strategy"])
    columns = [*index.values(), "seeds", *strategies]
    columns += [f"{name} − {BASELINE}" for name in strategies if name in compared]
    return pd.DataFrame(lines, columns=[*columns, "source"]).fillna("")


def _form(line: pd.Series, decimals: int) -> dict[str, Any]:
    fraction = line.get("unit", FRACTION) == FRACTION
    return {"decimals": decimals} if fraction else {"decimals": decimals + 2, "scale": 1.0}


def _text(line: pd.Series, decimals: int) -> str:
    if line["kind"] == "gap":
        return UNDEFINED
    if line.get("unit") == RUNS:
        return f"{round(line['mean'] * line['n_values'])} of {line['n_values']}"
    bounds, sd = (line["low"], line["high"]), line.get("repeat_sd", math.nan)
    text = cell(line["mean"], bounds=bounds, sd=sd, **_form(line, decimals))
    return text + (FLAG if line["flagged"] else "")


Builder = Callable[[Frames, Settings, Tables], Table]

PERCENT = "Percent. In brackets: {level:.0f} % intervals."
MIXED = "Scores and shares in percent, the rest as named. In brackets: {level:.0f} % intervals."
NUMBERS = "In brackets: {level:.0f} % intervals."
OVER_SEEDS = (
    "Intervals are Student's over seeds; of Average, over the seeds' averages over tasks; of "
    "merges that share seeds, over the seeds' jackknife values."
)
DIFFERENCES = "Differences are paired by seed; their intervals are those that the claims use."
COLLAPSED = "† A run of this mean is flagged, for example collapsed: one class for every item."
FEW = f"Fewer than {LEAST_SEEDS} values have no interval."
CONTEXT = "The paper's rows are context, not targets: other backbone, data and training length."


def table(
    name: str, *, needs: tuple[str, ...] = (), rebuttal: str = ""
) -> Callable[[Builder], Builder]:
    """Mark a function as the one that makes a table (:data:`coto.findings.TABLES`).

    Its docstring is the table's caption. It reads the records that it ``needs``, ``train`` and
    ``select``; ``rebuttal`` is its number in the authors' rebuttal. All arguments must be literals.
    """
    return lambda builder: builder


def displayed(lines: Iterable[dict[str, str]]) -> pd.DataFrame:
    """Lines as text for people; their ``suite`` is shown only where there are several."""
    frame = pd.DataFrame(lines)
    return frame if frame["suite"].nunique() > 1 else frame.drop(columns="suite")


def ordered(tidy: pd.DataFrame, *split_by: str) -> pd.DataFrame:
    """Sort by the display order of suites, adapters and what splits them; else as it stands."""
    for column in (*reversed(split_by), "adapter", "suite"):
        names = list(dict.fromkeys(tidy[column]))
        order = ranked(column, names) if column in ("suite", "adapter", *ORDER) else names
        position = pd.Index(order).get_indexer(pd.Index(tidy[column]))
        tidy = tidy.iloc[position.argsort(kind="stable")].reset_index(drop=True)
    return tidy


@dataclass(frozen=True)
class Quantity:
    """Rows of a quantity, its name in tables, its unit, and whether arms are compared by it."""

    name: str
    rows: pd.DataFrame
    unit: str = FRACTION
    differences: bool = True


def compared(
    quantities: Sequence[Quantity], settings: Settings, split_by: Sequence[str] = ()
) -> pd.DataFrame:
    """:func:`compare` for quantities, at least one with rows; adds ``quantity`` and ``unit``."""
    parts = []
    for one in (one for one in quantities if len(one.rows)):
        lines = compare(one.rows, settings, split_by, differences=one.differences)
        parts.append(lines.assign(quantity=one.name, unit=one.unit))
    return pd.concat(parts, ignore_index=True)


def laid_out(
    title: str,
    lines: pd.DataFrame,
    curves: pd.DataFrame,
    headings: Mapping[str, str],
    settings: Settings,
    style: Tables,
    *more: str,
) -> Table:
    """A table of several quantities: averages over tasks for people, tasks and curves in the CSV.

    ``lines`` are of :func:`compared`, and of the paper; ``headings`` those of the columns that
    split the comparison; ``more`` are notes.
    """
    paper = lines["kind"] == "paper"
    by = [*headings, "quantity"]
    averages = ordered(pd.concat([overall(lines[~paper], by), lines[paper]]), *by)
    index = {"adapter": "adapter", **headings, "quantity": "quantity", "task": "task"}
    display = side_by_side(averages, index, style.decimals)
    if not paper.any():
        display = display.drop(columns="source")
    data = pd.concat([part for part in (lines, curves) if len(part)], ignore_index=True)
    return Table(title, data, display, notes(settings, averages, *more))


def notes(settings: Settings, lines: pd.DataFrame, *more: str) -> tuple[str, ...]:
    """The notes of a comparison: how to read it, what the suites are, what is unusual."""
    units = set(lines.get("unit", [FRACTION]))
    reading = PERCENT if units == {FRACTION} else MIXED if FRACTION in units else NUMBERS
    sentences = [reading.format(level=100 * settings.confidence), OVER_SEEDS]
    if lines["difference"].notna().any():
        sentences.append(DIFFERENCES)
    sentences += more
    unusual = {FEW: lines["n_values"] < LEAST_SEEDS, CONTEXT: lines["kind"] == "paper"}
    unusual |= {COLLAPSED: lines["flagged"] > 0}
    sentences += [text for text, where in unusual.items() if where.any()]
    return (*sentences, *descriptions(list(dict.fromkeys(lines["suite"])), settings))


def empty(title: str, reason: str) -> Table:
    """A table without measurements, which says why."""
    return Table(title, pd.DataFrame(columns=[*ARM, "kind", "mean"]), pd.DataFrame(), (reason,))


# What the paper calls the two arms with plain LoRA.
PAPER_ARMS = {BASELINE: "LoRA", STRATEGY: "LoRA-CoTo"}


@dataclass(frozen=True)
class Block:
    """Rows of an experiment that stand in a table.

    ``methods`` names the baseline and, where there is one, the CoTo arm of each adapter kind;
    ``about`` is a part of the name that one of the suite's evaluation sets must have.
    """

    label: str
    experiment: str
    task: str
    metric: str
    methods: Mapping[str, Sequence[str | None]]
    about: str = ""


def block_lines(tidy: pd.DataFrame, suite: str, block: Block) -> Iterator[dict[str, Any]]:
    """A table's lines of a block: two per adapter kind that the suite has too, or its baseline."""
    if not any(block.about in task for task in tidy["task"]):
        return
    for adapter, methods in block.methods.items():
        if adapter not in set(tidy["adapter"]):
            continue
        numbers = [paper_value(block.experiment, block.task, m, block.metric) for m in methods if m]
        place = {"suite": suite, "adapter": adapter, "task": block.label, "metric": "accuracy"}
        for strategy, number in zip((BASELINE, STRATEGY), numbers, strict=False):
            line = {**place, "kind": "paper", "flagged": 0, "strategy": strategy}
            line |= {"mean": number.value / 100, "source": number.provenance}
            if number.std is not None:  # over an operator's draws
                line["repeat_sd"] = number.std / 100
            if strategy == STRATEGY:
                line["difference"] = (number.value - numbers[0].value) / 100
            yield line


def append_lines(tidy: pd.DataFrame, lines: list[dict[str, Any]]) -> pd.DataFrame:
    """A comparison with further lines below; without any, as it is."""
    return pd.concat([tidy, pd.DataFrame(lines)], ignore_index=True) if lines else tidy


def lora_suites(tidy: pd.DataFrame) -> list[str]:
    """Suites with plain LoRA, the only adapter kind of most of the paper's analyses."""
    return list(dict.fromkeys(tidy.loc[tidy["adapter"] == "lora", "suite"]))


def lora_line(suite: str, label: str, value: PaperValue, **columns: Any) -> dict[str, Any]:
    """A line of kind ``paper`` with plain LoRA beside a suite, ``label`` in place of the task."""
    place = {"suite": suite, "adapter": "lora", "task": label, "metric": "", "kind": "paper"}
    return {**place, "unit": FRACTION, "flagged": 0, "source": value.provenance, **columns}


def beside_lora(
    lines: pd.DataFrame, label: str, numbers: Iterable[tuple[PaperValue, Mapping[str, Any]]]
) -> pd.DataFrame:
    """A comparison with a :func:`lora_line` of each number for every suite that has plain LoRA."""
    pairs = product(lora_suites(lines), numbers)
    return append_lines(lines, [lora_line(suite, label, v, **more) for suite, (v, more) in pairs])
