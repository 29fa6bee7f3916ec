"""Where runs lie in weight space: cosines and distances of ΔW, and a map of the runs."""

from collections.abc import Iterator
from itertools import cycle, product
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.container import BarContainer
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from coto.config.models import Tables
from coto.report.drawing import Strategies, figure, legend_above, look, message, new_figure
from coto.report.panels import at, averages, grouped_bars, named, paper_lines, places
from coto.report.paper import PaperValue, paper_value
from coto.report.quantities import BASELINE, ORDER, RUN, STRATEGY, TRAINED, final_runs, ranked
from coto.report.records import Frames
from coto.report.settings import Settings
from coto.report.tables import PAPER_ARMS, Quantity, beside_lora, compared, empty, laid_out, table
from coto.report.writing import Table

# What the weights of a run are compared with; the first two are other runs.
RELATIONS = ORDER["relation"]
# By measure its name in titles and its unit.
_MEASURES = {"cosine": ("cosine", "cosine"), "euclidean": ("Euclidean distance", "norm")}
# Rows of Figure r4 by relation.
_PAPER = ("SameMethod-DiffSeed", "SameSeed-DiffMethod", "LoRA vs Pretrain")
_MAX_TASKS = 6  # more columns would not be legible
_MARKERS = "osDhp8v^<>XP*d"
_ENDS = ["strategy", "lr", "seed"]


def weight_relations(geometry: pd.DataFrame, select: pd.DataFrame) -> pd.DataFrame:
    """Means over modules, ``cosine`` and ``euclidean``, by ``relation``, at the chosen rates.

    Between two seeds, ``seed`` is the pair; two strategies are the named one and the baseline.
    """
    rows = final_runs(geometry, select)
    chosen = rows[[*TRAINED, "lr"]].drop_duplicates()
    runs = rows.merge(chosen.rename(columns={name: f"other_{name}" for name in ("strategy", "lr")}))
    same_arm, same_seed = (runs[name] == runs[f"other_{name}"] for name in ("strategy", "seed"))
    seeds = runs[same_arm & ~same_seed]
    pairs = [tuple(sorted(pair)) for pair in zip(seeds["seed"], seeds["other_seed"], strict=True)]
    seeds = seeds.assign(seed=pd.Series(pairs, index=seeds.index, dtype=object))
    arms = runs[~same_arm & same_seed]
    arms = arms[(arms["strategy"] == BASELINE) | (arms["other_strategy"] == BASELINE)]
    strategy = arms["strategy"].where(arms["strategy"] != BASELINE, arms["other_strategy"])
    parts = [seeds, arms.assign(strategy=strategy)]
    parts += [at(rows, other_strategy=name.removeprefix("vs ")) for name in RELATIONS[2:]]
    parts = [part.assign(relation=name) for name, part in zip(RELATIONS, parts, strict=True)]
    return pd.concat(parts)[[*RUN, "relation", *_MEASURES]].reset_index(drop=True)


@table("geometry", needs=("geometry", "select"))
def geometry(frames: Frames, settings: Settings, style: Tables) -> Table:
    """Cosine and Euclidean distance of ΔW, means over modules.

    Between seeds of one strategy, between strategies with one seed, and from the pretrained weights
    and the start (the authors' Figure r4, whose printed numbers stand beside). Averages over tasks,
    with intervals in brackets.
    """
    title = "Weight geometry: cosine and distance of ΔW"
    if frames["geometry"].empty:
        return empty(title, "Weights were not compared.")
    rows = weight_relations(frames["geometry"], frames["select"])
    angles = rows[rows["relation"] != "vs start"]  # where ΔW = 0, which has none
    parts = [
        Quantity(name, of.assign(value=of[name]), _MEASURES[name][1], differences=False)
        for name, of in (("cosine", angles), ("euclidean", rows))
    ]
    paper = ((value, {**place, "mean": value.value}) for place, value in _paper())
    lines = beside_lora(compared(parts, settings, ["relation"]), "paper, Figure r4", paper)
    remarks = (
        "Means over modules, of runs of one task at the learning rates that are used. Intervals "
        "are over pairs of seeds, which share seeds, or over seeds.",
        "Same seed, other strategy: the named strategy and vanilla. vs pretrained compares ΔW with "
        "W₀ itself, which is inferred from the paper's printed numbers; vs start is ‖ΔW‖.",
    )
    headings = {"relation": "relation"}
    return laid_out(title, lines, rows.iloc[:0], headings, settings, style, *remarks)


def _paper() -> Iterator[tuple[dict[str, str], PaperValue]]:
    """The numbers of Figure r4; what is one number there is CoTo's, beside the baseline."""
    for relation, task in zip(RELATIONS, _PAPER, strict=False):
        both = {STRATEGY: "LoRA vs LoRA-CoTo"} if relation == RELATIONS[1] else PAPER_ARMS
        for (strategy, method), (measure, (_, unit)) in product(both.items(), _MEASURES.items()):
            place = {"relation": relation, "strategy": strategy, "quantity": measure, "unit": unit}
            yield place, paper_value("weight_geometry", task, method, measure)


@figure("geometry", needs=("geometry", "select"), rebuttal="r4")
def draw_geometry(frames: Frames, strategies: Strategies, settings: Settings) -> Figure:
    """Cosine and Euclidean distance between the ΔW of two runs, after the authors' Figure r4.

    Means over modules, tasks and seeds: of runs that differ in the seed, of runs that differ in the
    strategy (drawn in the colour of the other one than vanilla), and of each run beside the
    pretrained weights and beside no update. Error bars are intervals over seeds. Lighter bars are
    the numbers that the paper prints.
    """
    if frames["geometry"].empty:
        return message("Weights were not compared.")
    rows = weight_relations(frames["geometry"], frames["select"])
    found = places(rows)
    arms = ranked("strategy", list(rows["strategy"]))
    shown = new_figure(9.0, 2.0 * (len(found) + 1) + 0.7)
    grid = shown.subplots(len(found) + 1, 2, sharex=True, squeeze=False)
    for column, (measure, (name, _)) in zip(grid.T, _MEASURES.items(), strict=True):
        tidy = averages(rows.assign(value=rows[measure]), settings, ["relation"])
        for axes, (suite, adapter) in zip(column, found, strict=False):
            _draw(axes, at(tidy, suite=suite, adapter=adapter), arms)
            axes.set_title(f"{named((suite, adapter), found)}: {name}", loc="left")
        lines, quality = paper_lines(one for one in _paper() if one[0]["quantity"] == measure)
        _draw(column[-1], lines, arms, light=True)
        column[-1].set_title(f"paper: {name} (CLIP, {quality})", loc="left")
        labels = [relation.replace(", ", ",\n") for relation in RELATIONS]
        column[-1].set_xticks(np.arange(len(RELATIONS)), labels)
    legend_above(shown, *grid.flat)
    return shown


def _draw(axes: Axes, lines: pd.DataFrame, arms: list[str], *, light: bool = False) -> None:
    """Bars with their values on top, as the paper prints them."""
    grouped_bars(axes, lines, "relation", RELATIONS, arms, factor=1, light=light)
    for bars in axes.containers:
        if isinstance(bars, BarContainer):
            labels = ["" if np.isnan(v) else f"{v:.2f}" for v in np.asarray(bars.datavalues)]
            axes.bar_label(bars, labels, fontsize=8, padding=1)
    axes.set_ylim(min(0, 1.2 * lines["mean"].min()), 1.25 * lines["mean"].max())


@figure("embedding", needs=("geometry", "select"), rebuttal="r9")
def draw_embedding(frames: Frames, strategies: Strategies, settings: Settings) -> Figure:
    """A map of the runs of a task, of all learning rates, after the authors' Figure r9.

    Placed by t-SNE of the distances between their ΔW. Near points are near in weight space; axes
    and scale mean nothing. Colour: strategy; marker: learning rate; number: seed.
    """
    rows = frames["geometry"]
    if rows.empty:
        return message("Weights were not compared.")
    found = places(rows)
    arms = ranked("strategy", list(rows["strategy"]))
    markers = dict(zip(sorted(set(rows["lr"])), cycle(_MARKERS), strict=False))
    tasks = [sorted(set(at(rows, suite=s, adapter=a)["task"]))[:_MAX_TASKS] for s, a in found]
    count = max(map(len, tasks))
    shown = new_figure(max(5.0, 2.2 * count + 0.3), 2.3 * len(found) + 0.9)
    grid = shown.subplots(len(found), count, squeeze=False)
    for line, (suite, adapter), names in zip(grid, found, tasks, strict=True):
        for axes in line[len(names) :]:
            axes.set_visible(False)
        for axes, task in zip(line, names, strict=False):
            runs = at(rows, suite=suite, adapter=adapter, task=task)
            _draw_runs(axes, runs, arms, markers, settings.seed)
            axes.set_title(f"{named((suite, adapter), found)}\n{task}")
            axes.set(xticks=(), yticks=())
            axes.margins(0.15)
    entries = [("o", look(arms, arm)[0], arm) for arm in arms]
    entries += [(marker, "#777777", f"learning rate {rate:g}") for rate, marker in markers.items()]
    entries.append(("$1$", "#777777", "number: seed"))
    handles = [Line2D([], [], ls="none", marker=m, color=c, label=name) for m, c, name in entries]
    shown.legend(handles=handles, loc="outside upper center", ncols=min(len(handles), 4))
    return shown


def _draw_runs(
    axes: Axes, rows: pd.DataFrame, arms: list[str], markers: dict[float, str], seed: int
) -> None:
    """Each run as a marker with its seed in it, at the distances between each two of the rows."""
    from coto.analysis.geometry import embed

    runs = sorted(
        rows[_ENDS].drop_duplicates().itertuples(index=False, name=None),
        key=lambda run: (arms.index(run[0]), *run[1:]),
    )
    middle: dict[str, Any] = {"ha": "center", "fontsize": 8}
    if len(runs) < 4:
        few = f"{len(runs)} run{'s' * (len(runs) != 1)}:\ntoo few for t-SNE"
        axes.text(0.5, 0.5, few, transform=axes.transAxes, va="center", **middle)
        return
    distances = np.zeros((len(runs), len(runs)))
    others = [f"other_{name}" for name in _ENDS]
    for *ends, distance in rows.loc[rows["other_seed"] >= 0, [*_ENDS, *others, "distance"]].values:
        i, j = runs.index(tuple(ends[:3])), runs.index(tuple(ends[3:]))
        distances[i, j] = distances[j, i] = distance
    for (strategy, lr, number), (x, y) in zip(runs, embed(distances, seed), strict=True):
        style: dict[str, Any] = {"marker": markers[lr], "color": look(arms, strategy)[0]}
        axes.plot(x, y, markersize=11, markeredgecolor="white", **style)
        axes.annotate(str(number), (x, y), color="white", va="center_baseline", **middle)
