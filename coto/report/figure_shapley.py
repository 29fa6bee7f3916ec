"""The figure of what each layer's adapter contributes (Figure r5)."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure, SubFigure

from coto.report.drawing import LIGHT, Frames, Strategies, figure, look, message, new_figure
from coto.report.panels import at, grouped_bars, named, paper_lines, places, stack_names
from coto.report.paper import paper_value, paper_values
from coto.report.quantities import ranked
from coto.report.quantities_analysis import contributions, top_share
from coto.report.settings import Settings

_PAPER = {"LoRA": "vanilla", "CoTo": "coto", "early CoTo": "coto-early"}
_WITHIN = {"LoRA-CoTo": "coto", "early-stopped CoTo": "coto-early"}
# An even share, in percent, of the paper's highest third: 4 of 12 layers.
_EVEN = 100 * 4 / 12
_LANE = 0.24  # inches of a row of a heat map


@figure("shapley")
def shapley(frames: Frames, strategies: Strategies, settings: Settings) -> Figure:
    """Contribution by layer and projection: a row per adapter, a column per strategy."""
    rows = contributions(frames["subnetworks"], "score")
    if rows.empty:
        return message("Shapley values were not measured.")
    rows = rows.assign(value=100 * rows["value"])
    cells = ["suite", "adapter", "strategy", "stack", "projection", "layer"]
    means = rows.groupby(cells)["value"].mean().reset_index()
    shares = top_share(frames["subnetworks"], "score")
    shares = shares.groupby(cells[:3])[["value", "balanced"]].mean().reset_index()
    found = places(means)
    arms = ranked("strategy", list(means["strategy"]))
    suites = list(dict.fromkeys(suite for suite, _ in found))
    lanes = {place: _lanes(_of(means, place)) for place in found}
    heights = [
        sum(_LANE * len(lanes[place]) + 0.9 for place in found if place[0] == suite) + 0.2
        for suite in suites
    ]
    shown = new_figure(2.9 * len(arms) + 1.3, sum(heights) + 2.5)
    parts = shown.subfigures(len(suites) + 1, 1, height_ratios=[*heights, 2.5], squeeze=False)[:, 0]
    for part, suite in zip(parts, suites, strict=False):
        inside = {place: lanes[place] for place in found if place[0] == suite}
        _draw_suite(part, means, shares, inside, arms, found)
    _draw_sums_and_shares(parts[-1], shares, arms, found)
    return shown


def _of(rows: pd.DataFrame, place: tuple[str, str]) -> pd.DataFrame:
    return at(rows, suite=place[0], adapter=place[1])


def _lanes(means: pd.DataFrame) -> dict[tuple[str, str], str]:
    """Rows of a heat map, by stack and projection, with their names."""
    stacks = stack_names(means["stack"])
    return {
        (stack, projection): " ".join(filter(None, (name, projection or "block")))
        for stack, name in stacks.items()
        for projection in ranked("keep", list(at(means, stack=stack)["projection"]))
    }


def _draw_suite(
    part: SubFigure,
    means: pd.DataFrame,
    shares: pd.DataFrame,
    lanes: dict[tuple[str, str], dict[tuple[str, str], str]],
    arms: list[str],
    found: list[tuple[str, str]],
) -> None:
    """A suite's heat maps with one colour scale."""
    rows = list(map(len, lanes.values()))
    grid = part.subplots(len(rows), len(arms), squeeze=False, height_ratios=rows)
    values = pd.concat([_of(means, place)["value"] for place in lanes])
    limit = max(values.abs().max(), 1e-3)
    norm = TwoSlopeNorm(0, -limit, limit)
    for line, (place, names) in zip(grid, lanes.items(), strict=True):
        for axes, arm in zip(line, arms, strict=True):
            cells = at(_of(means, place), strategy=arm)
            if cells.empty:
                axes.set_visible(False)
                continue
            table = cells.pivot(index=["stack", "projection"], columns="layer", values="value")
            table = table.reindex(list(names))
            mesh = axes.pcolormesh(table.to_numpy(float), cmap="RdBu_r", norm=norm)
            axes.grid(visible=False)
            axes.invert_yaxis()
            axes.set_yticks(np.arange(len(names)) + 0.5, list(names.values()))
            axes.tick_params(labelleft=axes is line[0], length=0)
            step = max(1, len(table.columns) // 6)
            layers = table.columns.to_numpy(int)
            axes.set_xticks(np.arange(len(layers))[::step] + 0.5, layers[::step] + 1)
            share = at(_of(shares, place), strategy=arm)["value"]
            held = f"top third {100 * share.iloc[0]:.0f} %" if len(share) else "Σ near 0"
            axes.set_title(f"{named(place, found)}\n{arm}: {held}")
    for axes in grid[-1]:
        axes.set_xlabel("layer", fontsize=8)
    part.colorbar(mesh, ax=grid, label="φ (points)", pad=0.01, aspect=12)


def _draw_sums_and_shares(
    part: SubFigure, shares: pd.DataFrame, arms: list[str], found: list[tuple[str, str]]
) -> None:
    """Left: the paper's sums per encoder; right: what the top third holds, ours and the paper's."""
    left, right = part.subplots(1, 2, width_ratios=(2, 3))
    sums = paper_values("shapley_heatmap_sum")
    encoders = list(dict.fromkeys(encoder for encoder, _, _ in sums))
    paper, quality = paper_lines(
        ({"encoder": encoder, "strategy": _PAPER[arm]}, value)
        for (encoder, arm, _), value in sums.items()
    )
    _bars(left, paper, "encoder", encoders, arms, light=True)
    left.set_title(f"paper: Σφ by encoder of CLIP\n({quality}: lower bounds)", loc="left")
    left.set_ylabel("Σφ (points)")
    lora = paper_value("shapley", "share of highest 4 of 12 layers", "LoRA", "percent")
    ours = shares.assign(
        mean=100 * shares["value"],
        low=np.nan,
        high=np.nan,
        place=[named(at, found) for at in zip(shares["suite"], shares["adapter"], strict=True)],
    )
    groups = [*(named(place, found) for place in found), "paper"]
    _bars(right, ours, "place", groups, arms)
    theirs, _ = paper_lines([({"strategy": "vanilla", "place": "paper"}, lora)])
    _bars(right, theirs, "place", groups, arms, light=True)
    even = [*(100 * at(ours, place=name)["balanced"].mean() for name in groups[:-1]), _EVEN]
    x = np.arange(len(groups))
    right.hlines(even, x - 0.48, x + 0.48, color="#555555", lw=0.9, ls="--")
    _draw_within(right, len(groups) - 1, arms)
    right.set_title(
        "share of the highest third of the layers (dashed: an even share)\n"
        f"(paper: {lora.quality}; of CoTo, the range it stays within)",
        loc="left",
    )
    right.set_ylabel("share of Σφ (%)")
    right.legend(ncols=len(arms) + 1, loc="upper left", fontsize=8)
    right.set_ylim(0, 1.3 * right.get_ylim()[1])


def _bars(
    axes: Axes,
    lines: pd.DataFrame,
    column: str,
    groups: list[str],
    arms: list[str],
    *,
    light: bool = False,
) -> None:
    grouped_bars(axes, lines, column, groups, arms, factor=1, light=light)
    axes.set_xticks(np.arange(len(groups)), [group.replace(", ", "\n") for group in groups])


def _draw_within(axes: Axes, x: int, arms: list[str]) -> None:
    """How far from balance CoTo's shares are at most in the paper: a range, without a mean."""
    for method, arm in _WITHIN.items():
        if arm in arms:
            off = paper_value(
                "shapley", "deviation from balance", method, "percentage points (+/-)"
            ).value
            i = arms.index(arm)
            at_x = x + (i - (len(arms) - 1) / 2) * 0.84 / len(arms)
            axes.bar(
                at_x,
                2 * off,
                0.79 / len(arms),
                bottom=_EVEN - off,
                color=look(arms, arm)[0],
                alpha=LIGHT,
            )
