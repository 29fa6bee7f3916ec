"""Which adapters one update trains: a pure function of (strategy, seed, step, groups).

No state is kept, so a resumed run and every rank of a distributed run draw the same flags. Groups
are numbered by depth, lowest layer first, unless ``depth`` says otherwise.
"""

import difflib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from coto.method.schedule import Schedule, Shape, check_probability, check_steps

Kind = Literal["none", "skip", "element"]
Placement = Literal["random", "lowest", "highest"]
Flags = NDArray[np.bool_]
Floats = NDArray[np.float64]

# After so many rejected rows the rest is not drawn but integrated out (see sample_flags).
MAX_REDRAWS = 1000


@dataclass(frozen=True)
class Strategy:
    """What happens to the adapters during training. Build the usual ones by name: `make_strategy`.

    A rule of your own overrides :meth:`flags` or :meth:`dropout_rate`.

    Args:
        kind: ``"none"`` (all adapters always train), ``"skip"`` (whole groups are skipped) or
            ``"element"`` (the adapter's input passes an element-wise dropout).
        schedule: probability that a group is active (skip), or the dropout rate (element).
        placement: where the drawn number of active groups goes: where they were drawn
            (``"random"``), into the ``"lowest"`` or the ``"highest"`` layers.
        depth_decay: group ``l`` of ``L`` is active with chance ``1 - (l / L) * (1 - p)``.
        stop_at: training ends once the schedule of a ``"skip"`` has reached this probability.
    """

    name: str = ""
    kind: Kind = "skip"
    schedule: Schedule = field(default_factory=Schedule)
    placement: Placement = "random"
    depth_decay: bool = False
    stop_at: float | None = None

    def __post_init__(self) -> None:
        for key, choices in (("kind", get_args(Kind)), ("placement", get_args(Placement))):
            if getattr(self, key) not in choices:
                raise ValueError(
                    f"{key}: got {getattr(self, key)!r}, expected one of {', '.join(choices)}"
                )
        if self.stop_at is not None:
            check_probability("stop_at", self.stop_at)
            if self.kind != "skip":
                raise ValueError(f"stop_at: got {self.stop_at!r}, expected None for {self.name!r}")

    def probabilities(self, step: int, total_steps: int, depth: ArrayLike | int) -> Floats:
        """Return every group's chance to be active, before the at-least-one rule; shape (groups,).

        ``depth`` is the number of groups, or an array of relative depths in (0, 1], one per group.
        """
        depths = relative_depths(depth)
        if self.kind != "skip":
            return np.ones_like(depths)
        p = self.schedule(step, total_steps)
        return 1.0 - depths * (1.0 - p) if self.depth_decay else np.full_like(depths, p)

    def flags(self, seed: int, step: int, total_steps: int, depth: ArrayLike | int) -> Flags:
        """Return which groups update ``step``, counted from 0, trains; at least one is True.

        Shape (groups,); ``depth`` as in :meth:`probabilities`.
        """
        depths = relative_depths(depth)
        p = self.probabilities(step, total_steps, depths)
        if p.min() >= 1.0:
            return np.ones(p.shape, dtype=bool)
        flags = sample_flags(p, uniform_rows(seed, step, p.size))
        if self.placement != "random":  # as many, but at the lowest or highest depths
            order = np.argsort(depths if self.placement == "lowest" else -depths, kind="stable")
            count = int(flags.sum())
            flags[order[:count]], flags[order[count:]] = True, False
        return flags

    def dropout_rate(self, step: int, total_steps: int) -> float | None:
        """Return the element dropout rate of update ``step``; None leaves the model's own alone."""
        return self.schedule(step, total_steps) if self.kind == "element" else None

    def stop_step(self, total_steps: int) -> int | None:
        """Return the number of updates after which training ends early; None if it does not."""
        stop = self.stop_at
        return None if stop is None else self.schedule.first_step_at(stop, total_steps)


@dataclass(frozen=True)
class Options:
    """What strategies are made with; a rule reads what it needs.

    The paper gives no `survival`; `dropout` is that of the rebuttal figures r2 and r3 (or 0 there).
    """

    schedule: Schedule = field(default_factory=Schedule)
    survival: float = 0.5
    dropout: float = 0.25
    stop_at: float | None = None

    def __post_init__(self) -> None:
        check_probability("survival", self.survival)
        check_probability("dropout", self.dropout)


Rule = Callable[[Options], Strategy]


@dataclass(frozen=True)
class NamedStrategy:
    """An entry of `STRATEGIES`: one line on what an update does, and what makes the strategy."""

    name: str
    summary: str
    rule: Rule

    @property
    def code(self) -> str:
        """Where its rule is, ``module:function``."""
        return f"{self.rule.__module__}:{self.rule.__qualname__}"


STRATEGIES: dict[str, NamedStrategy] = {}
"""Strategies by name; `strategy` adds one."""


def strategy(name: str) -> Callable[[Rule], Rule]:
    """Name the rule below it, whose docstring begins with what an update does."""

    def add(rule: Rule) -> Rule:
        if name in STRATEGIES:
            raise ValueError(f"strategy {name!r}: there are two of that name")
        summary = (rule.__doc__ or "").partition("\n")[0].rstrip(".")
        STRATEGIES[name] = NamedStrategy(name, summary, rule)
        return rule

    return add


@strategy("vanilla")
def vanilla(options: Options) -> Strategy:
    """Trains all adapters."""
    return Strategy(kind="none")


@strategy("coto")
def coto(options: Options) -> Strategy:
    """Trains a random subset of the adapters that grows, the paper's method.

    Options: ``schedule``, ``stop_at``. The at-least-one rule is that of the authors' snippet.
    """
    return Strategy(schedule=options.schedule, stop_at=options.stop_at)


@strategy("coto-high")
def coto_high(options: Options) -> Strategy:
    """Trains as many adapters as coto does; those of the *high* layers are dropped first.

    *Inferred*: the paper does not give the sampler. The number of active groups is drawn as coto
    draws it and only placed by depth, so that nothing but placement differs.
    """
    return replace(coto(options), placement="lowest")


@strategy("coto-low")
def coto_low(options: Options) -> Strategy:
    """Trains as many adapters as coto does; those of the *low* layers are dropped first.

    *Inferred*, as in :func:`coto_high`.
    """
    return replace(coto(options), placement="highest")


@strategy("stochastic-depth")
def stochastic_depth(options: Options) -> Strategy:
    """Trains each group of adapters with chance ``survival`` in every update.

    *Inferred*: 0.5, no ramp, and coto's at-least-one rule, without which an update with no active
    adapter may have nothing to train.
    """
    return Strategy(schedule=Schedule("constant", p1=options.survival))


@strategy("stochastic-depth-linear")
def stochastic_depth_linear(options: Options) -> Strategy:
    """Trains each group with a chance that falls with depth from 1 to ``survival``.

    *Inferred*, as in :func:`stochastic_depth`; the linear decay is that of Huang et al. (2016).
    """
    return replace(stochastic_depth(options), depth_decay=True)


@strategy("dropout")
def dropout(options: Options) -> Strategy:
    """Drops elements of the adapters' inputs, at the rate ``dropout``."""
    return Strategy(kind="element", schedule=Schedule("constant", p1=options.dropout))


@strategy("progressive-dropout")
def progressive_dropout(options: Options) -> Strategy:
    """Drops elements of the adapters' inputs, at a rate that falls from 1 to ``dropout``.

    *Inferred*: it starts at 1 and ramps like coto. Options: ``schedule``, ``dropout``.
    """
    return Strategy(kind="element", schedule=replace(options.schedule, p0=1.0, p1=options.dropout))


def make_strategy(
    name: str | Strategy,
    schedule: Schedule | Shape = Schedule.shape,
    p0: float = Schedule.p0,
    p1: float = Schedule.p1,
    ramp: float = Schedule.ramp,
    survival: float = Options.survival,
    dropout: float = Options.dropout,
    stop_at: float | None = Options.stop_at,
) -> Strategy:
    """Return the strategy called ``name``, or a `Strategy` as it is; unused options are ignored.

    `STRATEGIES` has the names. Early-stopped coto is ``stop_at``; where the paper stops is not
    known. ValueError for an unknown name, or an option out of range.
    """
    if isinstance(name, Strategy):
        return name
    if name not in STRATEGIES:
        close = difflib.get_close_matches(name, STRATEGIES, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        known = ", ".join(sorted(STRATEGIES))
        raise ValueError(f"strategy {name!r}: {hint}expected one of {known}")
    ramped = schedule if isinstance(schedule, Schedule) else Schedule(schedule, p0, p1, ramp)
    return replace(STRATEGIES[name].rule(Options(ramped, survival, dropout, stop_at)), name=name)


def relative_depths(depth: ArrayLike | int) -> Floats:
    """Return one relative depth in (0, 1] per group; a number of groups means evenly spaced."""
    if isinstance(depth, int | np.integer):
        check_steps("groups", depth, minimum=1)
        return np.arange(1, depth + 1) / depth
    depths = np.asarray(depth, dtype=np.float64)
    if depths.ndim != 1 or not depths.size or not (depths.min() > 0 and depths.max() <= 1):
        raise ValueError(f"depth: got {depth!r}, expected a list of numbers in (0, 1]")
    return depths


def uniform_rows(seed: int, step: int, groups: int) -> Iterator[Floats]:
    """Yield rows of ``groups`` uniform draws in [0, 1), the same ones for the same (seed, step).

    The step is the high word of Philox's counter: the streams of two steps never overlap.
    """
    check_steps("seed", seed, minimum=0)
    check_steps("step", step, minimum=0)
    generator = np.random.Generator(np.random.Philox(key=seed, counter=[0, 0, 0, step]))
    while True:
        yield generator.random(groups)


def sample_flags(p: ArrayLike, rows: Iterator[Floats]) -> Flags:
    """Draw independent flags with chances ``p``, given that at least one of them is True.

    This is the authors' rule, "redraw the whole row while no ``u <= p``". Theirs hardly ends for a
    tiny p; here, after `MAX_REDRAWS` rejected rows, the two next ones draw from the conditional law
    of the redraws, first the lowest active group, then those above it: the law is exact for every
    p. For p = 0 it is the limit of small equal chances: one group, each with the same chance. ``p``
    and the endless rows of draws in [0, 1) have shape (groups,).
    """
    chances = np.asarray(p, dtype=np.float64)
    if not chances.any():
        chances = np.full_like(chances, np.finfo(np.float64).tiny)
    else:
        for _ in range(MAX_REDRAWS):
            flags: Flags = next(rows) <= chances
            if flags.any():
                return flags
    # P(lowest active group <= k) = (1 - prod_{j<=k} (1 - p_j)) / (1 - prod_j (1 - p_j))
    with np.errstate(divide="ignore"):  # p = 1: log 0, and the probability is exactly 1
        reached = -np.expm1(np.cumsum(np.log1p(-chances)))
    lowest = int(np.searchsorted(reached / reached[-1], next(rows)[0], side="right"))
    flags = next(rows) <= chances
    flags[:lowest] = False
    flags[lowest] = True
    return flags
