"""The figure of the gradient's norm by layer: how evenly the layers train."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure

from coto.report.drawing import Frames, Strategies, figure, legend_above, look, message, new_figure
from coto.report.panels import at, named, places, stack_names
from coto.report.quantities import final_runs, ranked
from coto.report.quantities_analysis import RUN, gradient_shares
from coto.report.settings import Settings

_LAYER = ["suite", "adapter", "stack", "layer", "strategy"]


@figure("gradients")
def gradients(frames: Frames, strategies: Strategies, settings: Settings) -> Figure:
    """Layers' norms over the training, and shares of their sum: a row per adapter and stack."""
    if frames["gradients"].empty:
        return message("Gradients were not recorded.")
    parts = _within_bins(final_runs(frames["gradients"], frames["select"]))
    whole = gradient_shares(frames["gradients"], frames["select"])
    whole = whole.groupby(_LAYER)["value"].mean().reset_index()
    found = places(whole)
    rows = [
        (place, stack, name)
        for place in found
        for stack, name in stack_names(_of(whole, place)["stack"]).items()
    ]
    arms = ranked("strategy", list(whole["strategy"]))
    shown = new_figure(2.5 * (len(arms) + 1) + 1.1, 2.4 * len(rows) + 0.7)
    grid = shown.subplots(len(rows), len(arms) + 1, sharey="row", squeeze=False)
    for line, (place, stack, name) in zip(grid, rows, strict=True):
        cells = at(_of(parts, place), stack=stack)
        norm = TwoSlopeNorm(1, 0, max(2, cells["value"].max()))
        title = ", ".join(filter(None, (named(place, found), name)))
        for axes, arm in zip(line, arms, strict=False):
            drawn = at(cells, strategy=arm)
            if drawn.empty:
                axes.set_visible(False)
                continue
            mesh = _draw_map(axes, drawn, norm)
            axes.set_title(f"{title}, {arm}", loc="left")
        shown.colorbar(mesh, ax=line[len(arms) - 1], label="norm ÷ mean of layers", pad=0.02)
        _draw_shares(line[-1], at(_of(whole, place), stack=stack), arms)
        line[-1].set_title("whole training", loc="left")
        line[0].set_ylabel("layer")
        layers = sorted(set(cells["layer"]))
        ticks = layers[:: max(1, len(layers) // 6)]
        line[0].set_yticks(ticks, [str(layer + 1) for layer in ticks])
    for axes in grid[-1][:-1]:
        axes.set_xlabel("training done (%)")
    grid[-1][-1].set_xlabel("share of the norm (%)")
    legend_above(shown, grid[0][-1])
    return shown


def _of(rows: pd.DataFrame, place: tuple[str, str]) -> pd.DataFrame:
    return at(rows, suite=place[0], adapter=place[1])


def _within_bins(runs: pd.DataFrame) -> pd.DataFrame:
    """Each layer's norm over the mean of the layers that trained in the bin, of tasks and seeds.

    Of the steps in which a layer trained: a chance of being off does not make it small.
    """
    active = runs[runs["steps_active"] > 0]
    means = active.groupby([*RUN, "share"])["norm_active"].transform("mean")
    relative = active.assign(value=active["norm_active"] / means)[means > 0]
    return relative.groupby([*_LAYER, "share"])["value"].mean().reset_index()


def _draw_map(axes: Axes, cells: pd.DataFrame, norm: TwoSlopeNorm) -> QuadMesh:
    table = cells.pivot(index="layer", columns="share", values="value")
    axes.grid(visible=False)
    axes.set_facecolor("#bbbbbb")  # where a layer never trained in a bin
    return axes.pcolormesh(
        100 * table.columns.to_numpy(float),
        table.index.to_numpy(float),
        table.to_numpy(float),
        shading="nearest",
        cmap="RdBu_r",
        norm=norm,
    )


def _draw_shares(axes: Axes, shares: pd.DataFrame, arms: list[str]) -> None:
    for arm in arms:
        colour, marker, _ = look(arms, arm)
        layers = at(shares, strategy=arm).sort_values("layer")
        axes.plot(
            100 * layers["value"].to_numpy(float),
            layers["layer"].to_numpy(float),
            color=colour,
            marker=marker,
            markersize=4,
            linewidth=1.4,
            label=arm,
        )
    even = 100 * shares.groupby("strategy")["value"].sum().mean() / shares["layer"].nunique()
    axes.axvline(even, color="#555555", linewidth=0.9, linestyle="--", label="all layers alike")
    axes.set_xlim(left=0)
