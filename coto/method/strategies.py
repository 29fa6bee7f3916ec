"""Which adapters one update trains: a pure function of (strategy, seed, step, groups).

No state is kept, so a resumed run and every rank of a distributed run draw the same flags. Groups
are numbered by depth, lowest layer first, unless ``depth`` says otherwise.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from coto.method.schedule import Schedule, Shape, check_probability, check_steps

Kind = Literal["none", "skip", "element"]
Placement = Literal["random", "lowest", "highest"]
Flags = NDArray[np.bool_]

# After so many rejected rows the rest is not drawn but integrated out (see sample_flags).
MAX_REDRAWS = 1000


@dataclass(frozen=True)
class Strategy:
    """What happens to the adapters during training. Build the usual ones by name: `make_strategy`.

    Args:
        name: how the strategy is called in records.
        kind: ``"none"`` (all adapters always train), ``"skip"`` (whole groups are skipped) or
            ``"element"`` (the adapter's input passes an element-wise dropout).
        schedule: probability that a group is active (skip), or the dropout rate (element).
        placement: for ``"skip"``, where the drawn number of active groups goes: ``"random"``
            (where they were drawn), ``"lowest"`` (the lowest layers) or ``"highest"``.
        depth_decay: for ``"skip"``, scale the probability by depth: group ``l`` of ``L`` (from 1)
            is active with ``1 - (l / L) * (1 - p)``, so the last one has ``p``.
        stop_at: for ``"skip"``, training ends once the schedule has reached this probability
            (early-stopped CoTo); None trains to the end.
    """

    name: str
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

    def probabilities(
        self, step: int, total_steps: int, depth: ArrayLike | int
    ) -> NDArray[np.float64]:
        """Return every group's chance to be active, before the at-least-one rule; shape (groups,).

        ``depth`` is the number of groups, or an array of relative depths in (0, 1], one per group.
        """
        depths = relative_depths(depth)
        if self.kind != "skip":
            return np.ones_like(depths)
        p = self.schedule(step, total_steps)
        return 1.0 - depths * (1.0 - p) if self.depth_decay else np.full_like(depths, p)

    def flags(self, seed: int, step: int, total_steps: int, depth: ArrayLike | int) -> Flags:
        """Return which groups update ``step`` trains; shape (groups,), at least one is True.

        Args:
            seed: any integer of at least 0.
            step: the update, counted from 0.
            total_steps: number of updates of the whole training.
            depth: as in :meth:`probabilities`.
        """
        depths = relative_depths(depth)
        p = self.probabilities(step, total_steps, depths)
        if p.min() >= 1.0:
            return np.ones(p.shape, dtype=bool)
        flags = sample_flags(p, uniform_rows(seed, step, p.size))
        return flags if self.placement == "random" else _placed(flags, depths, self.placement)

    def dropout_rate(self, step: int, total_steps: int) -> float | None:
        """Return the element dropout rate of update ``step``; None leaves the model's own alone."""
        return self.schedule(step, total_steps) if self.kind == "element" else None

    def stop_step(self, total_steps: int) -> int | None:
        """Return the number of updates after which training ends early; None if it does not."""
        if self.stop_at is None:
            return None
        return self.schedule.first_step_at(self.stop_at, total_steps)

    def active_share(self, seed: int, total_steps: int, depth: ArrayLike | int) -> float:
        """Return the mean share of active groups over a whole training, in (0, 1]."""
        depths = relative_depths(depth)
        steps = self.stop_step(total_steps) or total_steps
        return float(
            np.mean([self.flags(seed, s, total_steps, depths).mean() for s in range(steps)])
        )


def make_strategy(
    name: str,
    schedule: Schedule | Shape = "linear",
    p0: float = 0.1,
    p1: float = 1.0,
    ramp: float = 0.75,
    survival: float = 0.5,
    dropout: float = 0.25,
    stop_at: float | None = None,
) -> Strategy:
    """Return the strategy called ``name``; options that it does not use are ignored.

    ======================= ===================================================== ================
    name                    what one update does                                  options
    ======================= ===================================================== ================
    vanilla                 trains all adapters                                   none
    coto                    trains a random subset that grows (paper)             schedule, p0, p1,
                                                                                  ramp, stop_at
    coto-high               as many as coto, the *high* layers are dropped first  as coto
    coto-low                as many as coto, the *low* layers are dropped first   as coto
    stochastic-depth        trains each group with chance ``survival``, always    survival
    stochastic-depth-linear the same, falling linearly with depth from 1 to       survival
                            ``survival`` at the last group
    dropout                 element dropout of rate ``dropout`` on the adapter's  dropout
                            input
    progressive-dropout     the same, the rate goes from 1 to ``dropout``         schedule, ramp,
                                                                                  dropout
    ======================= ===================================================== ================

    Sources. coto: the paper, and the authors' snippet for the at-least-one rule. The 0.25 of
    dropout and the final 0.25 (or 0) of progressive-dropout: the authors' rebuttal figures r2, r3.

    *Inferred*, because the paper does not give the samplers: coto-high and coto-low draw the number
    of active groups as coto does and only place them by depth, so that nothing but placement
    differs; stochastic depth uses 0.5, no ramp, and coto's at-least-one rule (without it, an update
    with no active adapter may have nothing to train), its linear decay is that of Huang et al.
    (2016); progressive-dropout starts at 1 and ramps like coto. Early-stopped coto is ``stop_at``;
    where the paper stops is not known.

    Raises:
        ValueError: unknown name, or an option out of range.
    """
    ramped = schedule if isinstance(schedule, Schedule) else Schedule(schedule, p0, p1, ramp)
    check_probability("survival", survival)
    check_probability("dropout", dropout)
    coto = Strategy("coto", schedule=ramped, stop_at=stop_at)
    depth = Strategy("stochastic-depth", schedule=Schedule("constant", p1=survival))
    element = Strategy("dropout", "element", Schedule("constant", p1=dropout))
    rising = replace(ramped, p0=1.0, p1=dropout)
    strategies = (
        Strategy("vanilla", "none"),
        coto,
        replace(coto, name="coto-high", placement="lowest"),
        replace(coto, name="coto-low", placement="highest"),
        depth,
        replace(depth, name="stochastic-depth-linear", depth_decay=True),
        element,
        replace(element, name="progressive-dropout", schedule=rising),
    )
    for strategy in strategies:
        if strategy.name == name:
            return strategy
    expected = ", ".join(strategy.name for strategy in strategies)
    raise ValueError(f"strategy: got {name!r}, expected one of {expected}")


def relative_depths(depth: ArrayLike | int) -> NDArray[np.float64]:
    """Return one relative depth in (0, 1] per group; a number of groups means evenly spaced."""
    if isinstance(depth, int | np.integer):
        check_steps("groups", depth, minimum=1)
        return np.arange(1, depth + 1) / depth
    depths = np.asarray(depth, dtype=np.float64)
    if depths.ndim != 1 or not depths.size or not (depths.min() > 0 and depths.max() <= 1):
        raise ValueError(f"depth: got {depth!r}, expected a list of numbers in (0, 1]")
    return depths


def uniform_rows(seed: int, step: int, groups: int) -> Iterator[NDArray[np.float64]]:
    """Yield rows of ``groups`` uniform draws in [0, 1), the same ones for the same (seed, step).

    The generator is counter-based (Philox): the seed is its key and the step the high word of its
    counter, so that the streams of two steps never overlap and nothing has to be saved.
    """
    check_steps("seed", seed, minimum=0)
    check_steps("step", step, minimum=0)
    generator = np.random.Generator(np.random.Philox(key=seed, counter=[0, 0, 0, step]))
    while True:
        yield generator.random(groups)


def sample_flags(p: ArrayLike, rows: Iterator[NDArray[np.float64]]) -> Flags:
    """Draw independent flags with chances ``p``, given that at least one of them is True.

    This is the authors' rule, "redraw the whole row while no ``u <= p``", with the same flags for
    the same rows. Theirs never ends for p = 0 and hardly ever for a tiny p; here, after
    `MAX_REDRAWS` rejected rows, the two next rows are used to draw from the conditional law that
    the redraws would have converged to: first the lowest active group, then those above it. The
    law is therefore exact for every p. For p = 0 it is the limit of small equal chances: one group,
    each with the same chance.

    Args:
        p: chance of every group, in [0, 1]; shape (groups,).
        rows: endless rows of uniform draws in [0, 1), each of shape (groups,).
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


def _placed(flags: Flags, depths: NDArray[np.float64], placement: Placement) -> Flags:
    """Move the active groups to the lowest or highest depths, keeping their number."""
    order = np.argsort(depths if placement == "lowest" else -depths, kind="stable")
    placed = np.zeros_like(flags)
    placed[order[: int(flags.sum())]] = True
    return placed
