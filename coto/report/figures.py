"""The figures, found by name; to add one, write the function and decorate it with its name."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from coto.method.schedule import Schedule, Shape
from coto.method.strategies import make_strategy
from coto.report import quantities
from coto.report.comparison import AVERAGE, compare
from coto.report.drawing import (
    Drawer,
    Frames,
    Strategies,
    legend_above,
    look,
    message,
    new_figure,
    percent_axis,
)
from coto.report.quantities import BASELINE, ranked
from coto.report.settings import Settings

FIGURES: dict[str, Drawer] = {}

# More columns than this would not be legible; the average over tasks stands for them.
MAX_TASKS = 6
_SHAPES: dict[Shape, tuple[str, str]] = {
    "linear": ("#0072B2", "-"),
    "exponential": ("#D55E00", "--"),
    "sine": ("#009E73", "-."),
}
_LINES = {"fusion": "-", "ensemble": "--"}


def figure(name: str) -> Callable[[Drawer], Drawer]:
    """Register a drawer under a name, which is also the name of its files."""

    def register(draw: Drawer) -> Drawer:
        FIGURES[name] = draw
        return draw

    return register


@figure("interpolation")
def interpolation(frames: Frames, strategies: Strategies, settings: Settings) -> Figure:
    """Score along the path between two seeds: a row per adapter, a column per task."""
    if frames["interpolate"].empty:
        return message("Interpolation was not measured: it needs two seeds.")
    rows = quantities.path_scores(frames["interpolate"])
    tidy = compare(rows, settings, ["space", "weight"])
    places = tidy[["suite", "adapter"]].drop_duplicates().to_numpy().tolist()
    tasks = sorted(set(rows["task"]))
    columns = tasks if len(tasks) <= MAX_TASKS else []
    columns = [AVERAGE, *columns] if len(tasks) > 1 else tasks
    shown = new_figure(max(4.5, 1.9 * len(columns) + 0.8), 2.1 * len(places) + 1.0)
    grid = shown.subplots(len(places), len(columns), sharex=True, sharey=True, squeeze=False)
    arms = ranked("strategy", list(tidy["strategy"]))
    for line, (suite, adapter) in zip(grid, places, strict=True):
        here = tidy[(tidy["suite"] == suite) & (tidy["adapter"] == adapter)]
        for axes, task in zip(line, columns, strict=True):
            _draw_paths(axes, here[here["task"] == task], arms)
            axes.set_title(f"{adapter}, {'average' if task == AVERAGE else task}")
        percent_axis(line[0], "score")
    for axes in grid[-1]:
        axes.set_xlabel("λ (weight of second seed)", fontsize=8)
    low, high = 100 * tidy["mean"].min(), 100 * tidy["mean"].max()
    margin = 0.08 * max(high - low, 1.0)
    grid[0][0].set_ylim(low - margin, high + margin)
    legend_above(shown, grid[0][0])
    return shown


def _draw_paths(axes: Axes, tidy: pd.DataFrame, arms: list[str]) -> None:
    for arm in arms:
        colour, marker, _ = look(arms, arm)
        for space in ranked("space", list(tidy["space"])):
            path = tidy[(tidy["strategy"] == arm) & (tidy["space"] == space)].sort_values("weight")
            x, y = path["weight"].to_numpy(float), 100 * path["mean"].to_numpy(float)
            axes.plot(
                x,
                y,
                color=colour,
                linestyle=_LINES.get(space, ":"),
                marker=marker,
                markersize=3.5,
                linewidth=1.3,
                markerfacecolor=colour if space == "fusion" else "white",
                label=f"{arm}, {space}",
            )
            low, high = (100 * path[end].to_numpy(float) for end in ("low", "high"))
            if np.isfinite(low).any():
                axes.fill_between(x, low, high, color=colour, alpha=0.12, linewidth=0)
    axes.set_xticks([0, 0.5, 1])


@figure("pruning")
def pruning(frames: Frames, strategies: Strategies, settings: Settings) -> Figure:
    """Score by what is kept, average over tasks, with the intervals of the tables."""
    if frames["prune"].empty:
        return message("Pruning was not measured.")
    tidy = compare(quantities.headline(frames["prune"]), settings, ["keep"])
    several = tidy["task"].eq(AVERAGE).any()
    tidy = tidy[tidy["task"] == AVERAGE] if several else tidy
    places = tidy[["suite", "adapter"]].drop_duplicates().to_numpy().tolist()
    arms = ranked("strategy", list(tidy["strategy"]))
    keeps = ranked("keep", list(tidy["keep"]))
    shown = new_figure(7.5, 2.0 * len(places) + 0.9)
    grid = shown.subplots(len(places), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    width = 0.8 / len(arms)
    for axes, (suite, adapter) in zip(grid, places, strict=True):
        here = tidy[(tidy["suite"] == suite) & (tidy["adapter"] == adapter)]
        for i, arm in enumerate(arms):
            bars = here[here["strategy"] == arm].set_index("keep").reindex(keeps)
            colour, _, hatch = look(arms, arm)
            mean = 100 * bars["mean"]
            error = [mean - 100 * bars["low"], 100 * bars["high"] - mean]
            axes.bar(
                np.arange(len(keeps)) + (i - (len(arms) - 1) / 2) * width,
                mean,
                width * 0.94,
                yerr=error,
                color=colour,
                hatch=hatch,
                edgecolor="white",
                linewidth=0,
                error_kw={"linewidth": 1.0, "capsize": 2},
                label=arm,
            )
        axes.set_title(f"{adapter}{', average over tasks' if several else ''}", loc="left")
        axes.set_ylim(0, 100)
        axes.grid(visible=False, axis="x")
        percent_axis(axes, "score")
    grid[-1].set_xticks(np.arange(len(keeps)), [_keep_label(keep) for keep in keeps])
    legend_above(shown, grid[0])
    return shown


def _keep_label(keep: str) -> str:
    return {"all": "all\n(no pruning)", "odd": "odd\nlayers", "even": "even\nlayers"}.get(
        keep, f"{keep}\n{'layers' if keep in ('low', 'middle', 'high') else 'only'}"
    )


@figure("masks")
def masks(frames: Frames, strategies: Strategies, settings: Settings) -> Figure:
    """The picture of the method: which blocks' adapters one training of CoTo switches on, when."""
    chosen = strategies.get("coto", {"kind": "coto"})
    names = ("schedule", "p0", "p1", "ramp")
    plan = make_strategy("coto", **{name: chosen[name] for name in names if name in chosen})
    blocks, steps = 12, 80
    flags = np.array(
        [plan.flags(seed=0, step=s, total_steps=steps, depth=blocks) for s in range(steps)]
    )
    shown = new_figure(6.4, 2.9)
    axes, right = shown.subplots(1, 2, width_ratios=(5, 1.6), sharex=False)
    axes.grid(visible=False)
    axes.pcolormesh(
        100 * np.arange(steps + 1) / steps,
        np.arange(blocks + 1) + 0.5,
        flags.T,
        cmap=ListedColormap(["#eeeeee", "#0072B2"]),
        edgecolors="white",
        linewidth=0.4,
    )
    axes.set(xlabel="training steps done (%)", ylabel="transformer block", yticks=(1, 4, 8, 12))
    axes.set_title("blue: this block's adapters train at this step")
    curve = plan.schedule(np.arange(steps), steps)
    right.plot(100 * np.arange(steps) / steps, curve, color="#D55E00", linewidth=2)
    right.set(xlabel="steps done (%)", xlim=(0, 100), ylim=(0, 1.03), xticks=(0, 50, 100))
    right.set_title("chance p(t)")
    return shown


@figure("schedule")
def schedule(frames: Frames, strategies: Strategies, settings: Settings) -> Figure:
    """Activation probability over training: the shapes on offer, the one in use drawn heavily."""
    used = {
        name: s for name, s in strategies.items() if str(s.get("kind", name)).startswith("coto")
    }
    plans: dict[Schedule, list[str]] = {}
    for name, chosen in used.items():
        ends = {key: chosen[key] for key in ("p0", "p1", "ramp") if key in chosen}
        plans.setdefault(Schedule(shape=chosen.get("schedule", "linear"), **ends), []).append(name)
    main = next(iter(plans), Schedule())
    shapes = list(_SHAPES)
    others = [replace(main, shape=s) for s in shapes if s not in {plan.shape for plan in plans}]
    shown = new_figure(4.8, 3.2)
    axes = shown.subplots()
    total = 1000
    steps = np.arange(total)
    ordered = sorted([*plans, *others], key=lambda plan: [*shapes, plan.shape].index(plan.shape))
    for plan in ordered:
        names = plans.get(plan, [])
        axes.plot(
            100 * steps / total,
            plan(steps, total),
            color=_SHAPES.get(plan.shape, ("#000000", ":"))[0],
            linestyle=_SHAPES.get(plan.shape, ("#000000", ":"))[1],
            linewidth=2.6 if names else 1.1,
            label=f"{plan.shape} ({', '.join(names)})"
            if names
            else f"{plan.shape} (not used here)",
        )
    end = 100 * main.ramp
    axes.axvline(end, color="#666666", linewidth=0.8, linestyle=":")
    axes.annotate(
        f"p = {main.p1:g} from {end:g} %",
        (end, 0.03),
        (-4, 0),
        textcoords="offset points",
        ha="right",
        color="#444444",
        fontsize=8,
    )
    axes.set(xlabel="training steps done (%)", ylabel="p(t), chance that an adapter is on")
    axes.set(xlim=(0, 100), ylim=(0, 1.03))
    axes.legend(loc="upper left", fontsize=8)
    return shown


@figure("training_time")
def training_time(frames: Frames, strategies: Strategies, settings: Settings) -> Figure:
    """Time per optimizer step of each arm, with the share saved and the active adapters."""
    if frames["overhead"].empty:
        return message("Training time was not measured.")
    times = compare(quantities.step_times(frames["overhead"]), settings, average=False)
    active = frames["overhead"].groupby(quantities.ARM)["active_share"].mean()
    arms = ranked("strategy", list(times["strategy"]))
    places = times[["suite", "adapter", "task"]].drop_duplicates().to_numpy().tolist()
    unit, factor = ("ms", 1000) if times["mean"].max() < 1 else ("s", 1)
    shown = new_figure(5.6, 0.42 * len(places) * len(arms) + 1.5)
    axes = shown.subplots()
    for i, arm in enumerate(arms):
        colour, _, hatch = look(arms, arm)
        for j, (suite, adapter, task) in enumerate(places):
            place = times[(times["suite"] == suite) & (times["adapter"] == adapter)]
            place = place[place["task"] == task].set_index("strategy")
            if arm not in place.index:
                continue
            bar = place.loc[arm]
            y = j + (i - (len(arms) - 1) / 2) * 0.8 / len(arms)
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
            text = f"{100 * active[(suite, task, adapter, arm)]:.0f} % of adapters on"
            if arm != BASELINE and BASELINE in place.index:
                saved = 100 * (1 - bar["mean"] / place.loc[BASELINE, "mean"])
                text = f"{saved:.1f} % {'less' if saved >= 0 else 'more'} time, {text}".replace(
                    "-", ""
                )
            axes.text(
                0.02 * factor * times["mean"].max(),
                y,
                text,
                va="center",
                fontsize=8,
                color="white",
                bbox={"facecolor": colour, "edgecolor": "none", "pad": 1.2},
            )
    axes.set_yticks(range(len(places)), [adapter for _, adapter, _ in places])
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    axes.set_xlabel(f"time per optimizer step ({unit})")
    legend_above(shown, axes)
    return shown
