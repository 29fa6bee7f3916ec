"""How evenly the layers train and contribute: gradients, Shapley values."""

from itertools import groupby

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure, SubFigure

from coto.config.models import Tables
from coto.findings.layers import quantities
from coto.findings.layers.quantities import UNITS, by_place, contributions, top_share
from coto.report.comparison import points
from coto.report.drawing import LIGHT, Strategies, figure, legend_above, look, message, new_figure
from coto.report.panels import at, grouped_bars, paper_lines, stack_names
from coto.report.paper import PaperValue, Reported, paper_value, paper_values
from coto.report.quantities import BASELINE, RUN, final_runs, ranked
from coto.report.records import Frames
from coto.report.settings import Settings
from coto.report.tables import Quantity, beside_lora, compared, empty, laid_out, table
from coto.report.writing import Table

# Parts of the training by name: the shares after which they begin and up to which they last.
_PERIODS = {"whole": (0.0, 1.0), "first half": (0.0, 0.5), "second half": (0.5, 1.0)}
_LAYER = ["suite", "adapter", "stack", "layer", "strategy"]
_SHARE, _DEVIATION = "share of the highest third, {}", "deviation from balance, {}"
_SUMS = {"LoRA": BASELINE, "CoTo": "coto", "early CoTo": "coto-early"}
# An even share, in percent, of the paper's highest third: 4 of 12 layers.
_EVEN = 100 * 4 / 12
_LANE = 0.24  # inches of a row of a heat map
_ARM = ["suite", "adapter", "strategy"]


@table("gradients", needs=("gradients", "select"))
def gradients(frames: Frames, settings: Settings, style: Tables) -> Table:
    """Share of the norm of the adapters' gradients that each third of the layers gets.

    Over the whole training and its halves. Averages over tasks in percent, with intervals in
    brackets; single tasks and layers are in the CSV.
    """
    title = "Where gradients go: shares of the norm by third of the layers"
    if frames["gradients"].empty:
        return empty(title, "Gradient norms were not recorded.")
    shares, deviation = (
        pd.concat(
            quantity(frames["gradients"], frames["select"], *ends).assign(period=name)
            for name, ends in _PERIODS.items()
        )
        for quantity in (quantities.gradient_shares, quantities.gradient_imbalance)
    )
    summed = quantities.with_third(shares).groupby([*RUN, "period", "third"])["value"].sum()
    thirds = summed.reset_index()
    parts = [Quantity(f"{third} third", at(thirds, third=third)) for third in quantities.THIRDS]
    lines = compared([*parts, Quantity("deviation from balance", deviation)], settings, ["period"])
    layers = points(shares, settings, ["period", "stack", "layer"]).assign(quantity="layer")
    remarks = (
        "A layer's norm is that of its adapter's gradient, summed over the steps; a step in which "
        "the layer is off counts 0. Thirds count the layers of each stack.",
        "Deviation from balance: how far the share of the highest third is from its share of the "
        "layers. The CSV has every task and every layer.",
    )
    return laid_out(title, lines, layers, {"period": "training"}, settings, style, *remarks)


@figure("gradients", needs=("gradients", "select"))
def draw_gradients(frames: Frames, strategies: Strategies, settings: Settings) -> Figure:
    """How evenly the layers train, by the norm of their adapters' gradients.

    Maps: a layer's gradient norm in the steps in which it trained, divided by the mean over the
    layers of that part of the training; white is even, grey was never on. Right: shares of the norm
    summed over all steps, skipped ones among them. Means over tasks and seeds, at the learning
    rates that the arms use.
    """
    if frames["gradients"].empty:
        return message("Gradients were not recorded.")
    parts = _within_bins(final_runs(frames["gradients"], frames["select"]))
    whole = quantities.gradient_shares(frames["gradients"], frames["select"])
    whole = whole.groupby(_LAYER)["value"].mean().reset_index()
    rows = [
        (", ".join(filter(None, (title, name))), at(cells, stack=stack), at(shares, stack=stack))
        for title, (cells, shares) in by_place(parts, whole)
        for stack, name in stack_names(shares["stack"]).items()
    ]
    arms = ranked("strategy", list(whole["strategy"]))
    shown = new_figure(2.5 * (len(arms) + 1) + 1.1, 2.4 * len(rows) + 0.7)
    grid = shown.subplots(len(rows), len(arms) + 1, sharey="row", squeeze=False)
    for line, (title, cells, shares) in zip(grid, rows, strict=True):
        norm = TwoSlopeNorm(1, 0, max(2, cells["value"].max()))
        for axes, arm in zip(line, arms, strict=False):
            drawn = at(cells, strategy=arm)
            if drawn.empty:
                axes.set_visible(False)
                continue
            axes.grid(visible=False)
            axes.set_facecolor("#bbbbbb")  # where a layer never trained in a bin
            norms = drawn.pivot(index="layer", columns="share", values="value")
            x, y = 100 * norms.columns.to_numpy(float), norms.index.to_numpy(float)
            mesh = axes.pcolormesh(x, y, norms, shading="nearest", cmap="RdBu_r", norm=norm)
            axes.set_title(f"{title}, {arm}", loc="left")
        shown.colorbar(mesh, ax=line[len(arms) - 1], label="norm ÷ mean of layers", pad=0.02)
        _draw_shares(line[-1], shares, arms)
        line[-1].set_title("whole training", loc="left")
        layers = sorted(set(cells["layer"]))
        ticks = layers[:: max(1, len(layers) // 6)]
        line[0].set_yticks(ticks, [str(layer + 1) for layer in ticks])
        line[0].set_ylabel("layer")
    for axes in grid[-1][:-1]:
        axes.set_xlabel("training done (%)")
    grid[-1][-1].set_xlabel("share of the norm (%)")
    legend_above(shown, grid[0][-1])
    return shown


def _within_bins(runs: pd.DataFrame) -> pd.DataFrame:
    """Each layer's norm in the steps in which it trained, over the mean of all layers."""
    active = runs[runs["steps_active"] > 0]
    means = active.groupby([*RUN, "share"])["norm_active"].transform("mean")
    relative = active.assign(value=active["norm_active"] / means)[means > 0]
    return relative.groupby([*_LAYER, "share"])["value"].mean().reset_index()


def _draw_shares(axes: Axes, shares: pd.DataFrame, arms: list[str]) -> None:
    for arm in arms:
        colour, marker, _ = look(arms, arm)
        layers = at(shares, strategy=arm).sort_values("layer")
        x, y = layers[["value", "layer"]].to_numpy(float).T
        axes.plot(100 * x, y, color=colour, marker=marker, markersize=4, linewidth=1.4, label=arm)
    even = 100 * shares.groupby("strategy")["value"].sum().mean() / shares["layer"].nunique()
    axes.axvline(even, color="#555555", linewidth=0.9, linestyle="--", label="all layers alike")
    axes.set_xlim(left=0)


@table("shapley", needs=("subnetworks",))
def shapley(frames: Frames, settings: Settings, style: Tables) -> Table:
    """What the layers' adapters contribute to the score and to the loss (Shapley values).

    The share of the highest third of the layers, how far it is from an even share, and whether all
    contributions add up to what all adapters give together. φ of every player, with its standard
    error, is in the CSV.
    """
    title = "Shapley values: what the layers' adapters contribute"
    rows = frames["subnetworks"]
    if not (rows["analysis"] == "shapley").any():
        return empty(title, "Shapley values were not measured.")
    parts = [
        Quantity(name.format(measure), quantity(rows, measure))
        for name, quantity in ((_SHARE, top_share), (_DEVIATION, quantities.imbalance))
        for measure in UNITS
    ]
    parts += [part for measure, unit in UNITS.items() for part in _sums(rows, measure, unit)]
    paper = [(BASELINE, _SHARE, _value(quantities.TOP_SHARE))]
    paper += [(arm, _DEVIATION, _value(one)) for arm, one in quantities.OFF_BALANCE.items()]
    numbers = [
        (value, {"strategy": arm, "quantity": name.format("score"), "mean": value.value / 100})
        for arm, name, value in paper
    ]
    lines = beside_lora(compared(parts, settings), "paper, CLIP ViT-B/16, 12 layers", numbers)
    who = ["measure", "player", "stack", "layer", "projection"]
    players = pd.concat([contributions(rows, measure) for measure in UNITS])
    players = points(players, settings, who).assign(quantity="φ")
    remarks = (
        "v is the score, or minus the loss: φ is positive where a player helps. Thirds count the "
        "layers of each stack. Runs whose Σφ is below 0.5 points or 0.01 nats, or below half of "
        "Σ|φ| because contributions cancel, have no share.",
        "Σφ must be v(all) − v(none), which sampling does not use; the residual is their distance "
        "in standard errors of Σφ, of sampled runs.",
        _effort(at(rows, analysis="shapley")),
        "The CSV has φ of every player, with its standard error. " + quantities.EARLY,
    )
    return laid_out(title, lines, players, {}, settings, style, *remarks)


def _sums(rows: pd.DataFrame, measure: str, unit: str) -> list[Quantity]:
    """Σφ, v(all) − v(none), and their distance in standard errors where φ was sampled."""
    sums = contributions(rows, measure).groupby(RUN)["value"].sum().reset_index()
    total = at(rows, analysis="shapley", measure=measure, player="total")[[*RUN, "value", "error"]]
    both = sums.merge(total, on=RUN, suffixes=("", "_total"))
    distance = (both["value"] - both["value_total"]).abs() / both["error"]
    residual = both.assign(value=distance)[both["error"] > 0]
    name = measure + " (nats)" * (measure == "loss")
    return [
        Quantity(f"Σφ, {name}", sums, unit, differences=False),
        Quantity(f"v(all) − v(none), {name}", total, unit, differences=False),
        Quantity(f"residual, {measure} (standard errors)", residual, "errors", differences=False),
    ]


def _value(number: Reported) -> PaperValue:
    return paper_value(number.experiment, number.task, number.coto, number.metric)


def _effort(rows: pd.DataFrame) -> str:
    """How many subsets each suite's values took, and whether these were all."""
    parts = []
    for place, part in rows.groupby(["suite", "adapter"]):
        players = f"{part.loc[part['player'] != 'total', 'player'].nunique()} players"
        how = "a sample" if (part["error"] > 0).any() else "all subsets"
        subsets = f"{part['evaluations'].max()} subsets evaluated"
        parts.append(f"{', '.join(map(str, place))}: {players}, {subsets}, φ from {how}")
    return f"{'; '.join(parts)}."


@figure("shapley", needs=("subnetworks",), rebuttal="r5")
def draw_shapley(frames: Frames, strategies: Strategies, settings: Settings) -> Figure:
    """What each layer's adapter contributes to the score, as Shapley values φ in points.

    Means over tasks and seeds; blue cells lower the score. A layer is the first of those that its
    player joins. All panels of a suite share one colour scale. *Top third*: share of Σφ that the
    highest third of the layers holds; the dashed line is its share of the players. Lighter: the
    paper's sums per encoder, measured on its Figure r5, whose colours saturate, and the shares that
    are known of it.
    """
    rows = contributions(frames["subnetworks"], "score")
    if rows.empty:
        return message("Shapley values were not measured.")
    rows = rows.assign(value=100 * rows["value"])
    means = rows.groupby([*_ARM, "stack", "projection", "layer"])["value"].mean().reset_index()
    shares = top_share(frames["subnetworks"], "score")
    shares = shares.groupby(_ARM)[["value", "balanced"]].mean().reset_index()
    arms = ranked("strategy", list(means["strategy"]))
    places = by_place(means, shares)
    suites = [list(of) for _, of in groupby(places, lambda place: place[1][0]["suite"].iloc[0])]
    heights = [sum(_LANE * len(_lanes(m)) + 0.9 for _, (m, _) in of) + 0.2 for of in suites]
    shown = new_figure(2.9 * len(arms) + 1.3, sum(heights) + 2.5)
    parts = shown.subfigures(len(suites) + 1, 1, height_ratios=[*heights, 2.5], squeeze=False)[:, 0]
    for part, of_suite in zip(parts, suites, strict=False):
        _draw_suite(part, of_suite, arms)
    _draw_bars(parts[-1], {title: share for title, (_, share) in places}, arms)
    return shown


def _lanes(means: pd.DataFrame) -> dict[tuple[str, str], str]:
    """Rows of a heat map, by stack and projection, with their names."""
    return {
        (stack, projection): " ".join(filter(None, (name, projection or "block")))
        for stack, name in stack_names(means["stack"]).items()
        for projection in ranked("keep", list(at(means, stack=stack)["projection"]))
    }


def _draw_suite(part: SubFigure, places: quantities.Places, arms: list[str]) -> None:
    """A suite's heat maps of φ with one colour scale, and what the top third holds."""
    rows = [len(_lanes(means)) for _, (means, _) in places]
    grid = part.subplots(len(rows), len(arms), squeeze=False, height_ratios=rows)
    limit = max(*(means["value"].abs().max() for _, (means, _) in places), 1e-3)
    norm = TwoSlopeNorm(0, -limit, limit)
    for line, (title, (means, shares)) in zip(grid, places, strict=True):
        names = _lanes(means)
        for axes, arm in zip(line, arms, strict=True):
            cells = at(means, strategy=arm)
            if cells.empty:
                axes.set_visible(False)
                continue
            heat = cells.pivot(index=["stack", "projection"], columns="layer", values="value")
            heat = heat.reindex(list(names))
            mesh = axes.pcolormesh(heat.to_numpy(float), cmap="RdBu_r", norm=norm)
            axes.grid(visible=False)
            axes.invert_yaxis()
            axes.set_yticks(np.arange(len(names)) + 0.5, list(names.values()))
            axes.tick_params(labelleft=axes is line[0], length=0)
            step = max(1, len(heat.columns) // 6)
            layers = heat.columns.to_numpy(int)
            axes.set_xticks(np.arange(len(layers))[::step] + 0.5, layers[::step] + 1)
            share = at(shares, strategy=arm)["value"]
            held = f"top third {100 * share.iloc[0]:.0f} %" if len(share) else "Σ near 0"
            axes.set_title(f"{title}\n{arm}: {held}")
    for axes in grid[-1]:
        axes.set_xlabel("layer", fontsize=8)
    part.colorbar(mesh, ax=grid, label="φ (points)", pad=0.01, aspect=12)


def _draw_bars(part: SubFigure, shares: dict[str, pd.DataFrame], arms: list[str]) -> None:
    """Left: the paper's sums per encoder; right: what the top third holds, ours and the paper's."""
    left, right = part.subplots(1, 2, width_ratios=(2, 3))
    sums = paper_values("shapley_heatmap_sum").items()
    paper, quality = paper_lines(
        ({"encoder": encoder, "strategy": _SUMS[arm]}, value) for (encoder, arm, _), value in sums
    )
    encoders = list(dict.fromkeys(paper["encoder"]))
    grouped_bars(left, paper, "encoder", encoders, arms, factor=1, light=True)
    left.set_title(f"paper: Σφ by encoder of CLIP\n({quality}: lower bounds)", loc="left")
    left.set_ylabel("Σφ (points)")
    lora = _value(quantities.TOP_SHARE)
    ours = pd.concat([share.assign(place=title) for title, share in shares.items()])
    ours = ours.assign(mean=100 * ours["value"], low=np.nan, high=np.nan)
    groups = [*shares, "paper"]
    grouped_bars(right, ours, "place", groups, arms, factor=1)
    theirs, _ = paper_lines([({"strategy": BASELINE, "place": "paper"}, lora)])
    grouped_bars(right, theirs, "place", groups, arms, factor=1, light=True)
    for axes, labels in ((left, encoders), (right, groups)):
        axes.set_xticks(np.arange(len(labels)), [label.replace(", ", "\n") for label in labels])
    even = [*(100 * share["balanced"].mean() for share in shares.values()), _EVEN]
    x = np.arange(len(groups))
    right.hlines(even, x - 0.48, x + 0.48, color="#555555", lw=0.9, ls="--")
    # How far from balance CoTo's shares are at most in the paper: a range, without a mean.
    for arm in [arm for arm in quantities.OFF_BALANCE if arm in arms]:
        off = _value(quantities.OFF_BALANCE[arm]).value
        place = x[-1] + (arms.index(arm) - (len(arms) - 1) / 2) * 0.84 / len(arms)
        width, colour = 0.79 / len(arms), look(arms, arm)[0]
        right.bar(place, 2 * off, width, bottom=_EVEN - off, color=colour, alpha=LIGHT)
    title = "share of the highest third of the layers (dashed: an even share)"
    about = f"paper: {lora.quality}; of CoTo, the range it stays within"
    right.set_title(f"{title}\n({about})", loc="left")
    right.set_ylabel("share of Σφ (%)")
    right.legend(ncols=len(arms) + 1, loc="upper left", fontsize=8)
    right.set_ylim(0, 1.3 * right.get_ylim()[1])
