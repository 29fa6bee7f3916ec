"""Figures of the method itself: which adapters train when, and the schedules."""

from dataclasses import replace
from typing import Any

import numpy as np
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from coto.config.models import Strategy
from coto.method.schedule import Schedule, Shape
from coto.method.strategies import make_strategy
from coto.report.drawing import Strategies, figure, new_figure
from coto.report.records import Frames
from coto.report.settings import Settings

_SHAPES: dict[Shape, tuple[str, str]] = {
    "linear": ("#0072B2", "-"),
    "exponential": ("#D55E00", "--"),
    "sine": ("#009E73", "-."),
}


def _schedule_of(strategy: Strategy) -> Schedule:
    return Schedule(strategy.schedule, strategy.p0, strategy.p1, strategy.ramp)


@figure("masks")
def masks(frames: Frames, strategies: Strategies, settings: Settings) -> Figure:
    """The method in a picture: one coin per transformer block and training step.

    The coin decides whether the block's adapters are computed and trained. Its chance rises over
    training; at least one block is always on. Drawn with the sampler that trains the models, for 12
    blocks.
    """
    plan = make_strategy("coto", _schedule_of(strategies.get("coto") or Strategy(kind="coto")))
    blocks, steps = 12, 80
    flags = [plan.flags(seed=0, step=s, total_steps=steps, depth=blocks) for s in range(steps)]
    picture = new_figure(6.4, 2.9)
    axes, right = picture.subplots(1, 2, width_ratios=(5, 1.6), sharex=False)
    axes.grid(visible=False)
    axes.pcolormesh(
        100 * np.arange(steps + 1) / steps,
        np.arange(blocks + 1) + 0.5,
        np.transpose(flags),
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
    return picture


@figure("schedule")
def schedule(frames: Frames, strategies: Strategies, settings: Settings) -> Figure:
    """The activation probability p(t) of an adapter over training.

    Heavy lines are what this run uses; the others are the paper's alternatives.
    """
    plans: dict[Schedule, list[str]] = {}
    for name, strategy in strategies.items():
        if strategy.kind.startswith("coto"):
            plans.setdefault(_schedule_of(strategy), []).append(name)
    main = next(iter(plans), Schedule())
    shapes = list(_SHAPES)
    others = [replace(main, shape=s) for s in shapes if s not in {plan.shape for plan in plans}]
    picture = new_figure(4.8, 3.2)
    axes, total = picture.subplots(), 1000
    steps = np.arange(total)
    ordered = sorted([*plans, *others], key=lambda plan: [*shapes, plan.shape].index(plan.shape))
    for plan in ordered:
        names = plans.get(plan, [])
        colour, dashes = _SHAPES.get(plan.shape, ("#000000", ":"))
        axes.plot(
            100 * steps / total,
            plan(steps, total),
            color=colour,
            linestyle=dashes,
            linewidth=2.6 if names else 1.1,
            label=f"{plan.shape} ({', '.join(names) or 'not used here'})",
        )
    end = 100 * main.ramp
    axes.axvline(end, color="#666666", linewidth=0.8, linestyle=":")
    style: dict[str, Any] = {"ha": "right", "color": "#444444", "fontsize": 8}
    text = f"p = {main.p1:g} from {end:g} %"
    axes.annotate(text, (end, 0.03), (-4, 0), textcoords="offset points", **style)
    axes.set(xlabel="training steps done (%)", ylabel="p(t), chance that an adapter is on")
    axes.set(xlim=(0, 100), ylim=(0, 1.03))
    axes.legend(loc="upper left", fontsize=8)
    return picture
