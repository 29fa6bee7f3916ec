import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coto import Schedule
from coto.method.schedule import count_of

SHAPES = ["linear", "exponential", "sine", "constant"]
unit = st.floats(0, 1)
schedules = st.builds(Schedule, st.sampled_from(SHAPES), unit, unit, unit)


def test_linear_is_the_authors_formula_on_every_step():
    total = 1001
    end = math.ceil(total * 0.75)
    expected = [min(0.1 + (1.0 - 0.1) * (step / end), 1.0) for step in range(total)]
    assert Schedule()(np.arange(total), total).tolist() == pytest.approx(expected, abs=1e-15)
    assert Schedule()(end - 1, total) < 1.0
    assert Schedule()(end, total) == 1.0


@pytest.mark.parametrize(
    ("shape", "half_way"),
    [
        ("linear", 0.5),
        ("exponential", (math.exp(0.5) - 1) / (math.e - 1)),
        ("sine", math.sqrt(0.5)),
        ("constant", 1.0),
    ],
)
def test_shape_half_way_up_the_ramp(shape, half_way):
    assert Schedule(shape, p0=0.0)(300, 800) == pytest.approx(half_way)


@pytest.mark.parametrize(
    ("shape", "area"),  # over the ramp: the integral of the shape; then 1
    [("linear", 1 / 2), ("exponential", (math.e - 2) / (math.e - 1)), ("sine", 2 / math.pi)],
)
def test_mean_over_training_is_the_integral(shape, area):
    mean = Schedule(shape, p0=0.0)(np.arange(100_000), 100_000).mean()
    assert mean == pytest.approx(0.75 * area + 0.25, abs=1e-4)


def test_scalar_and_array_agree_and_keep_their_kind():
    schedule = Schedule("sine")
    values = schedule(np.arange(40), 40)
    assert isinstance(schedule(3, 40), float)
    assert values.shape == (40,)
    assert [schedule(step, 40) for step in range(40)] == values.tolist()


@settings(deadline=None)
@given(schedules, st.integers(1, 5000))
def test_starts_at_p0_ends_at_p1_and_moves_one_way(schedule, total):
    values = schedule(np.arange(total + 1), total)
    low, high = sorted([schedule.p0, schedule.p1])
    assert ((low - 1e-12 <= values) & (values <= high + 1e-12)).all()
    assert values[-1] == schedule.p1
    if schedule.shape != "constant" and schedule.ramp * total > 0:
        assert values[0] == schedule.p0
    steps = np.diff(values) * np.sign(schedule.p1 - schedule.p0)
    assert (steps >= -1e-12).all()


@settings(deadline=None)
@given(schedules, unit, st.integers(1, 500))
def test_first_step_at_is_the_first_one(schedule, p, total):
    step = schedule.first_step_at(p, total)
    values = schedule(np.arange(total), total)
    covered = values >= p if schedule.p1 >= schedule.p0 else values <= p
    assert step == (covered.tolist().index(True) if covered.any() else None)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"shape": "cubic"}, "shape: got 'cubic', expected one of linear, exponential, sine"),
        ({"p0": -0.1}, "p0: got -0.1, expected a number in"),
        ({"p1": 1.5}, "p1: got 1.5"),
        ({"p1": float("nan")}, "p1: got nan"),
        ({"ramp": "0.75"}, "ramp: got '0.75'"),
        ({"p0": True}, "p0: got True"),
    ],
)
def test_bad_fields_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        Schedule(**arguments)


@pytest.mark.parametrize("total", [0, -3, 2.5, None])
def test_bad_total_steps_are_named(total):
    with pytest.raises(ValueError, match="total_steps: got"):
        Schedule()(0, total)


def test_negative_step_is_refused():
    with pytest.raises(ValueError, match="step: got -1"):
        Schedule()([-1, 0], 10)


def test_a_share_becomes_an_exact_count():
    assert math.ceil(0.55 * 100) == 56  # what rounding of floats makes of it
    assert [count_of(share, 100) for share in (0.55, 0.07, 0.561, 0, 1)] == [55, 7, 57, 0, 100]
    assert [count_of(k / 100, 100) for k in range(101)] == list(range(101))
    assert Schedule(ramp=0.55).ramp_steps(100) == 55
    assert Schedule(ramp=0.55)(55, 100) == 1
    assert [count_of(share, 10, nearest=True) for share in (0.54, 0.56, 1e-300)] == [5, 6, 0]
