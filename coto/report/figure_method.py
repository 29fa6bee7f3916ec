"""Figures of the method itself: which adapters train when, and the schedules."""

from dataclasses import replace

import numpy as np
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from coto.method.schedule import Schedule, Shape
from coto.method.strategies import make_strategy
from coto.report.drawing import Frames, Strategies, figure, new_figure
from coto.report.settings import Settings

_SHAPES: dict[Shape, tuple[str, str]] = {
    "linear": ("#0072B2", "-"),
    "exponential": ("#D55E00", "--"),
    "sine": ("#009E73", "-."),
}


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
