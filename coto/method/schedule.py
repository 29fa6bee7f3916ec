"""How a probability moves over training: a plain function of the step.

The linear ramp over 75 % of the updates is the paper's; ``p0 = 0.1`` and ``ceil(0.75 * T)`` are the
authors' snippet's; other shapes are read off their rebuttal figure r1 (to within 0.007).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal, get_args, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

Shape = Literal["linear", "exponential", "sine", "constant"]

# Maps the finished fraction of the ramp, in [0, 1], to the covered fraction of p0 -> p1.
_SHAPES: dict[str, Callable[[NDArray[np.float64]], NDArray[np.float64]]] = {
    "linear": lambda x: x,
    "exponential": lambda x: np.expm1(x) / math.expm1(1.0),
    "sine": lambda x: np.sin(0.5 * math.pi * x),
    "constant": np.ones_like,
}


@dataclass(frozen=True)
class Schedule:
    """A probability that goes from ``p0`` to ``p1`` in the first part of training and stays there.

    Update ``s`` of ``T`` (counted from 0) uses ``p0 + (p1 - p0) * f(s / ceil(ramp * T))``, and
    ``p1`` from ``s = ceil(ramp * T)`` on. ``f(x)`` is ``x`` (linear, the paper's),
    ``(e^x - 1) / (e - 1)`` (exponential), ``sin(pi x / 2)`` (sine) or 1 (constant: ``p1`` from the
    first update on, ``p0`` is not used). ``p0``, ``p1``, which may be smaller, and ``ramp`` are in
    [0, 1], else ValueError. The paper's text starts at 0, the authors' snippet at 0.1, as here.

    >>> Schedule()([0, 300, 750, 999], 1000).round(2).tolist()
    [0.1, 0.46, 1.0, 1.0]
    """

    shape: Shape = "linear"
    p0: float = 0.1
    p1: float = 1.0
    ramp: float = 0.75

    def __post_init__(self) -> None:
        if self.shape not in _SHAPES:
            known = ", ".join(get_args(Shape))
            raise ValueError(f"shape: got {self.shape!r}, expected one of {known}")
        for key in ("p0", "p1", "ramp"):
            check_probability(key, getattr(self, key))

    @overload
    def __call__(self, step: int, total_steps: int) -> float: ...
    @overload
    def __call__(self, step: ArrayLike, total_steps: int) -> NDArray[np.float64]: ...
    def __call__(self, step: ArrayLike, total_steps: int) -> float | NDArray[np.float64]:
        """Return the probability at ``step`` (a number or an array, counted from 0)."""
        check_steps("total_steps", total_steps, minimum=1)
        steps = np.asarray(step, dtype=np.float64)
        if steps.size and not steps.min() >= 0:
            raise ValueError(f"step: got {steps.min():g}, expected 0 or more")
        end = self.ramp_steps(total_steps)
        done = np.minimum(steps / end, 1.0) if end else np.ones_like(steps)
        p = np.where(done < 1, self.p0 + (self.p1 - self.p0) * _SHAPES[self.shape](done), self.p1)
        return p if p.ndim else float(p)

    def ramp_steps(self, total_steps: int) -> int:
        """Return the first step that uses ``p1``: ``ceil(ramp * total_steps)``."""
        return count_of(self.ramp, total_steps) if self.shape != "constant" else 0

    def first_step_at(self, p: float, total_steps: int) -> int | None:
        """Return the first step whose probability has covered ``p0 -> p``; None if none does."""
        check_probability("p", p)
        values = self(np.arange(total_steps), total_steps)
        reached = values >= p if self.p1 >= self.p0 else values <= p
        return int(reached.argmax()) if reached.any() else None


def count_of(share: float, total: int, *, nearest: bool = False) -> int:
    """Return a share of a total as a whole number: rounded up, or to the nearest one.

    The share counts as the decimal that is written: products of floats are off by their last bit.

    >>> count_of(0.55, 100), math.ceil(0.55 * 100)
    (55, 56)
    """
    exact = Fraction(str(float(share))) * int(total)
    return round(exact) if nearest else math.ceil(exact)


def check_probability(key: str, value: object) -> None:
    """Raise ValueError unless ``value`` is a real number in [0, 1]."""
    if isinstance(value, bool) or not isinstance(value, float | int) or not 0 <= value <= 1:
        raise ValueError(f"{key}: got {value!r}, expected a number in [0, 1]")


def check_steps(key: str, value: object, minimum: int) -> None:
    """Raise ValueError unless ``value`` is an integer of at least ``minimum``."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < minimum:
        raise ValueError(f"{key}: got {value!r}, expected an integer of at least {minimum}")
