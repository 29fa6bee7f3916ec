"""Training time: seconds per step of each arm, its table, figure and claim."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from coto.config.models import Tables
from coto.report.claim import CLAIMS, Claim
from coto.report.comparison import compare
from coto.report.drawing import LIGHT, Strategies, figure, legend_above, look, message, new_figure
from coto.report.panels import at
from coto.report.paper import PAPER_NAMES, PaperValue, Reported, paper_value
from coto.report.quantities import ARM, BASELINE, STRATEGY, ranked
from coto.report.records import Frames
from coto.report.settings import Settings, descriptions
from coto.report.tables import cell, displayed, empty, ordered, table
from coto.report.writing import Table

# The paper's times, and what it calls the arms of the adapter kinds that it has timed.
_EXPERIMENT = ("training_time_math_1xA6000", "speedup")
_TIMED = {adapter: f"{PAPER_NAMES[adapter]}-CoTo" for adapter in ("lora", "dora", "hira")}


def step_times(overhead: pd.DataFrame) -> pd.DataFrame:
    """Seconds per step; ``seed`` numbers an arm's repeated measurements, in record order."""
    repeat = overhead.groupby(ARM).cumcount()
    return overhead.assign(seed=repeat, value=overhead["seconds_per_step"])


def time_saved(overhead: pd.DataFrame) -> pd.DataFrame:
    """Share of the baseline's time per step that an arm saves, per repeat; 0 for the baseline."""
    rows = step_times(overhead)
    place = ["suite", "task", "adapter", "seed"]
    base = rows.loc[rows["strategy"] == BASELINE, [*place, "value"]]
    rows = rows.merge(base.rename(columns={"value": "base"}), on=place)
    return rows.assign(value=1 - rows["value"] / rows["base"]).drop(columns="base")


def _paper() -> dict[str, PaperValue]:
    """Percent of wall-clock time that CoTo saves in the paper, by adapter kind."""
    return {kind: paper_value(*_EXPERIMENT, name, "percent") for kind, name in _TIMED.items()}


_LABEL = "percent of wall-clock time saved, LLaMA-2-7B math, one A6000"
CLAIMS.add(
    Claim(
        name="training-time",
        statement="CoTo reduces training overhead.",
        test="Share of the vanilla arm's time per step that CoTo saves, over repeated, "
        "interleaved measurements.",
        table="training_time",
        rows="strategy in ('vanilla', 'coto')",
        family="efficiency",
        quantity=lambda f: time_saved(f["overhead"]),
        records=("overhead",),
        reported={
            adapter: (Reported(_LABEL, *_EXPERIMENT, "percent", name, is_effect=True),)
            for adapter, name in _TIMED.items()
        },
        fixed_margin=2.0,
        unit="% of time",
        needs="timed steps of both arms",
        replicates="repeats",
        caution="The repeats were made in one process on one machine.",
    )
)


@table("training_time", needs=("overhead",))
def training_time(frames: Frames, settings: Settings, style: Tables) -> Table:
    """Seconds per optimizer step of each arm, all arms interleaved in one process.

    Beside them: the share of adapters that were on, and the time that the paper reports to save.
    """
    title, overhead = "Training time", frames["overhead"]
    if overhead.empty:
        return empty(title, "Training time was not measured.")
    names = {"mean": "seconds_per_step", "low": "seconds_low", "high": "seconds_high"}
    times = _compared(step_times(overhead), settings, names | {"n_values": "repeats"})
    groups = overhead.groupby(ARM)
    shares = groups["active_share"].agg(pd.Series.mean)
    about = groups[["batch_size", "threads", "device", "hardware"]].first()
    runs = pd.concat([groups["steps"].sum(), shares, about], axis=1).reset_index()
    names = {"mean": "saved", "low": "saved_low", "high": "saved_high"}
    saved = _compared(time_saved(overhead), settings, names)
    paper = {adapter: value.value / 100 for adapter, value in _paper().items()}
    data = times.merge(runs, on=ARM)
    data["paper_saved"] = data["adapter"].map(paper).where(data["strategy"] == STRATEGY)
    data = ordered(data.merge(saved, on=ARM, how="left"), "strategy")
    display = displayed(
        {
            **{name: line[name] for name in ("suite", "adapter", "strategy")},
            "ms per step": f"{1000 * line['seconds_per_step']:.{style.decimals}f}",
            "time saved": ""
            if line["strategy"] == BASELINE
            else cell(line["saved"], style.decimals, (line["saved_low"], line["saved_high"])),
            "active adapters": cell(line["active_share"], style.decimals),
            "steps timed": str(line["steps"]),
            "hardware": f"{line['hardware']}, {line['threads']} threads, "
            f"batch {line['batch_size']}",
            "paper, LLaMA-2-7B, time saved": cell(line["paper_saved"], 1),
        }
        for _, line in data.iterrows()
    )
    notes = (
        "Percent where not said otherwise. Both arms run interleaved in one process; intervals "
        f"({100 * settings.confidence:.0f} %) where the measurement was repeated.",
        "Active adapters: mean share of adapters that the timed steps had switched on.",
        f"Paper: wall-clock time of math fine-tuning on one A6000 ({_paper()['lora'].provenance}).",
        *descriptions(list(dict.fromkeys(data["suite"])), settings),
    )
    return Table(title, data, display, notes)


def _compared(rows: pd.DataFrame, settings: Settings, names: dict[str, str]) -> pd.DataFrame:
    """The means of each arm with their intervals, under these names."""
    lines = compare(rows, settings, average=False, differences=False)
    return lines[[*ARM, *names]].rename(columns=names)


@figure("training_time", needs=("overhead",))
def draw_training_time(frames: Frames, strategies: Strategies, settings: Settings) -> Figure:
    """Time per optimizer step of each arm; error bars are intervals over repeated measurements.

    Every suite has an axis of its own. Light markers: where CoTo's bar would end if it saved the
    share that the paper measured, of mathematical reasoning on one A6000.
    """
    if frames["overhead"].empty:
        return message("Training time was not measured.")
    times = compare(step_times(frames["overhead"]), settings, average=False, differences=False)
    active = frames["overhead"].groupby(ARM)["active_share"].mean()
    arms = ranked("strategy", list(times["strategy"]))
    suites = list(dict.fromkeys(times["suite"]))
    bars = [times.loc[times["suite"] == suite, "adapter"].nunique() for suite in suites]
    picture = new_figure(5.6, 0.42 * sum(bars) * len(arms) + 0.8 * len(suites) + 0.7)
    grid = picture.subplots(len(suites), 1, height_ratios=bars, squeeze=False)[:, 0]
    for axes, suite in zip(grid, suites, strict=True):
        # Suites differ by orders of magnitude: each has an axis of its own.
        _draw_times(axes, times[times["suite"] == suite], active, arms)
        if len(suites) > 1:
            axes.set_title(suite, loc="left")
    legend_above(picture, grid[0])
    return picture


def _draw_times(axes: Axes, times: pd.DataFrame, active: pd.Series, arms: list[str]) -> None:
    known = times[["suite", "adapter", "task"]].drop_duplicates()
    places: list[dict[Any, Any]] = known.to_dict("records")
    parts = [at(times, **place).set_index("strategy") for place in places]
    unit, factor = ("ms", 1000) if times["mean"].max() < 1 else ("s", 1)
    for arm in arms:
        colour, _, hatch = look(arms, arm)
        for j, (place, bars) in enumerate(zip(places, parts, strict=True)):
            if arm not in bars.index:
                continue
            bar, y = bars.loc[arm], j + _offset(arms, arm)
            error = np.array([[bar["mean"] - bar["low"]], [bar["high"] - bar["mean"]]])
            axes.barh(
                y,
                factor * bar["mean"],
                0.74 / len(arms),
                xerr=factor * error,
                color=colour,
                hatch=hatch,
                edgecolor="white",
                linewidth=0,
                error_kw={"linewidth": 1.0, "capsize": 2},
                label=arm if j == 0 else None,
            )
            share = active[(place["suite"], place["task"], place["adapter"], arm)]
            text = f"{100 * share:.0f} % of adapters on"
            if arm != BASELINE and BASELINE in bars.index:
                saved = 100 * (1 - bar["mean"] / float(bars["mean"][BASELINE]))
                text = f"{abs(saved):.1f} % {'less' if saved >= 0 else 'more'} time, {text}"
            x, box = 0.02 * factor * times["mean"].max(), {"edgecolor": "none", "pad": 1.2}
            box["facecolor"] = colour
            axes.text(x, y, text, va="center", fontsize=8, color="white", bbox=box)
    for j, bars in enumerate(parts):
        _draw_paper(axes, bars, j, arms, factor)
    axes.set_yticks(range(len(places)), [place["adapter"] for place in places])
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    axes.set_xlabel(f"time per optimizer step ({unit})")


def _offset(arms: list[str], arm: str) -> float:
    """Where an arm's bar is beside the middle of its group."""
    return (arms.index(arm) - (len(arms) - 1) / 2) * 0.8 / len(arms)


def _draw_paper(axes: Axes, times: pd.DataFrame, y: int, arms: list[str], factor: float) -> None:
    """Where CoTo's bar would end if it saved what it does in the paper."""
    paper = _paper().get(times["adapter"].iloc[0])
    if paper is None or not {BASELINE, STRATEGY} <= set(times.index):
        return
    end = factor * float(times["mean"][BASELINE]) * (1 - paper.value / 100)
    place = y + _offset(arms, STRATEGY)
    edge = place + 0.37 / len(arms)  # clear of the bar's text
    colour, marker, _ = look(arms, STRATEGY)
    red, green, blue = (LIGHT * part + 1 - LIGHT for part in to_rgb(colour))
    style: dict[str, Any] = {"marker": marker, "markersize": 8, "markeredgecolor": "#333333"}
    axes.plot(end, edge, color=(red, green, blue), **style)
    text, x = f"paper: {paper.value:.1f} % less ({paper.quality})", 1.03 * axes.get_xlim()[1]
    style = {"annotation_clip": False, "va": "center", "fontsize": 8, "color": "#555555"}
    axes.annotate(text, (x, place), **style)
