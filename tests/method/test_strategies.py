import math
from collections import Counter
from itertools import repeat

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, chisquare

from coto import Schedule
from coto.method.strategies import (
    MAX_REDRAWS,
    STRATEGIES,
    Strategy,
    make_strategy,
    relative_depths,
    sample_flags,
    strategy,
    uniform_rows,
)

NAMES = [
    "vanilla",
    "coto",
    "coto-high",
    "coto-low",
    "stochastic-depth",
    "stochastic-depth-linear",
    "dropout",
    "progressive-dropout",
]


def test_every_name_has_a_line_on_what_it_does():
    assert list(STRATEGIES) == NAMES
    for name, entry in STRATEGIES.items():
        assert make_strategy(name).name == entry.name == name
        assert entry.summary.split()[0] in ("Trains", "Drops")
    assert STRATEGIES["coto-high"].code == "coto.method.strategies:coto_high"


def test_a_strategy_from_outside_needs_no_edit(monkeypatch):
    @strategy("first-half")
    def first_half(options):
        """Trains with the survival probability."""
        return Strategy(schedule=Schedule("constant", p1=options.survival))

    try:
        made = make_strategy("first-half", survival=0.3)
        assert (made.name, made.schedule.p1) == ("first-half", 0.3)
        assert STRATEGIES["first-half"].summary == "Trains with the survival probability"
        with pytest.raises(ValueError, match="'first-half': there are two of that name"):
            strategy("first-half")(first_half)
    finally:
        del STRATEGIES["first-half"]


class AuthorsSnippet:
    """The rule of the authors' README, step by step, fed with given uniform draws."""

    def __init__(self, adapters, per_group, total_steps, draw):
        self.off = [None] * adapters
        self.per_group = per_group
        self.total_steps = total_steps
        self.draw = draw

    def begin(self):
        self.update(0.1)

    def step_end(self, global_step):
        end = math.ceil(self.total_steps * 0.75)
        self.update(min(0.1 + (1.0 - 0.1) * (global_step / end), 1.0))

    def update(self, rate):
        groups = len(self.off) // self.per_group
        while True:
            values = self.draw(groups)
            if not all(value > rate for value in values):
                break
        self.off = [values[i // self.per_group] > rate for i in range(len(self.off))]


@pytest.mark.parametrize("groups", [1, 2, 6, 12, 24, 32])
def test_same_draws_give_the_flags_of_the_authors_snippet(groups):
    total, per_group, seed = 1000, 3, 11
    rows = {}

    def draw(count):  # the snippet draws for the update that it prepares
        return next(rows[step])

    step = 0
    rows[step] = uniform_rows(seed, step, groups)
    snippet = AuthorsSnippet(groups * per_group, per_group, total, draw)
    snippet.begin()
    strategy = make_strategy("coto")
    for step in range(total):
        if step:
            rows[step] = uniform_rows(seed, step, groups)
            snippet.step_end(step)
        flags = strategy.flags(seed, step, total, groups)
        assert (~np.repeat(flags, per_group)).tolist() == snippet.off, step


@pytest.mark.parametrize(("p", "groups"), [(0.1, 12), (0.1, 1), (0.3, 4), (0.02, 6), (0.9, 3)])
def test_activation_frequency_is_p_over_one_minus_q_to_the_groups(p, groups):
    steps = 4000
    strategy = Strategy("constant", schedule=Schedule("constant", p1=p))
    flags = np.array([strategy.flags(3, step, steps, groups) for step in range(steps)])
    expected = min(p / (1 - (1 - p) ** groups), 1.0)
    assert flags.any(axis=1).all()
    for group in range(groups):
        active = int(flags[:, group].sum())
        assert binomtest(active, steps, expected).pvalue > 1e-4, (group, active / steps, expected)


def patterns(p, rows, draws):
    """Count the drawn flag patterns."""
    return Counter(tuple(sample_flags(p, rows).tolist()) for _ in range(draws))


def test_law_after_the_last_redraw_is_the_law_of_the_redraws(monkeypatch):
    """Chi-square over all seven patterns of three unequal chances, with no redraw allowed."""
    monkeypatch.setattr("coto.method.strategies.MAX_REDRAWS", 0)
    p, draws = np.array([0.2, 0.5, 0.05]), 20_000
    counts = patterns(p, uniform_rows(0, 0, 3), draws)
    chance = {}
    for code in range(1, 8):
        on = np.array([bool(code & 1), bool(code & 2), bool(code & 4)])
        chance[tuple(on.tolist())] = np.prod(np.where(on, p, 1 - p))
    total = sum(chance.values())
    observed = [counts[pattern] for pattern in chance]
    assert sum(observed) == draws  # never the pattern with nothing active
    assert chisquare(observed, [draws * c / total for c in chance.values()]).pvalue > 1e-4


@pytest.mark.parametrize("p", [0.0, 5e-324, 1e-30, 1e-9])
def test_vanishing_probability_ends_with_one_uniform_group(p):
    counts = Counter()
    rows = uniform_rows(1, 2, 4)
    for _ in range(160):
        flags = sample_flags([p] * 4, rows)
        assert flags.sum() == 1
        counts[int(flags.argmax())] += 1
    assert chisquare([counts[group] for group in range(4)]).pvalue > 1e-4


def test_redraws_are_bounded():
    drawn = 0

    def never_active():
        nonlocal drawn
        for row in repeat(np.array([0.75, 0.99])):
            drawn += 1
            yield row

    assert sample_flags([0.5, 0.5], never_active()).tolist() == [False, True]
    assert drawn == MAX_REDRAWS + 2


def test_a_group_without_a_chance_is_not_even_drawn_by_a_zero(monkeypatch):
    monkeypatch.setattr("coto.method.strategies.MAX_REDRAWS", 0)
    rows = iter([np.zeros(2), np.full(2, 0.9)])
    assert sample_flags([0.0, 0.5], rows).tolist() == [False, True]


def test_flags_are_a_pure_function_of_seed_and_step():
    strategy = make_strategy("coto", p0=0.3)
    forward = [strategy.flags(5, step, 50, 8).tolist() for step in range(50)]
    backward = [strategy.flags(5, step, 50, 8).tolist() for step in reversed(range(50))]
    assert forward == backward[::-1]
    assert forward != [strategy.flags(6, step, 50, 8).tolist() for step in range(50)]
    assert len({tuple(flags) for flags in forward[:20]}) > 10  # steps differ from each other


def test_draws_are_pinned():
    """A change of the generator would silently make old and new runs different."""
    assert next(uniform_rows(42, 7, 4)).tolist() == [
        0.6027953220064188,
        0.3183483208171868,
        0.492045303543341,
        0.10794522059791911,
    ]


def test_high_and_low_keep_the_number_and_move_the_place():
    for step in range(0, 100, 3):
        count = int(make_strategy("coto").flags(1, step, 100, 12).sum())
        high = make_strategy("coto-high").flags(1, step, 100, 12)  # the high layers are dropped
        low = make_strategy("coto-low").flags(1, step, 100, 12)
        assert high.tolist() == [i < count for i in range(12)]
        assert low.tolist() == [i >= 12 - count for i in range(12)]


def test_two_encoders_are_placed_by_depth_not_by_order():
    depth = [1 / 3, 2 / 3, 1, 1 / 3, 2 / 3, 1]  # two towers of three
    strategy = make_strategy("coto-high", "constant", p1=0.5)
    seen = {int(f.sum()): f.tolist() for f in (strategy.flags(0, s, 60, depth) for s in range(60))}
    assert seen[2] == [True, False, False, True, False, False]
    assert seen[3] == [True, True, False, True, False, False]
    assert seen[4] == [True, True, False, True, True, False]


def test_stochastic_depth_survival():
    constant, linear = (
        make_strategy(name, survival=0.4)
        for name in ("stochastic-depth", "stochastic-depth-linear")
    )
    for step in (0, 99):
        assert constant.probabilities(step, 100, 4).tolist() == [0.4] * 4
        assert linear.probabilities(step, 100, 4) == pytest.approx([0.85, 0.7, 0.55, 0.4])


def test_dropout_rates():
    constant = make_strategy("dropout")
    rising = make_strategy("progressive-dropout")
    assert [constant.dropout_rate(s, 100) for s in (0, 99)] == [0.25, 0.25]
    assert [rising.dropout_rate(s, 100) for s in (0, 75, 99)] == [1.0, 0.25, 0.25]
    assert rising.dropout_rate(30, 100) == pytest.approx(1 - 0.75 * 0.4)
    assert make_strategy("coto").dropout_rate(0, 100) is None


def test_early_stop_is_where_the_schedule_reaches_it():
    strategy = make_strategy("coto", p0=0.0, stop_at=0.5)
    assert strategy.stop_step(1000) == 375
    assert make_strategy("coto", p1=0.6, stop_at=0.9).stop_step(1000) is None
    assert make_strategy("coto").stop_step(1000) is None


def test_active_share_is_near_the_integral():
    def share(name, total):
        strategy = make_strategy(name)
        return np.mean([strategy.flags(0, step, total, 24).mean() for step in range(total)])

    assert share("coto", 2000) == pytest.approx(0.6625, abs=0.01)
    assert share("vanilla", 10) == 1.0


@settings(deadline=None, max_examples=60)
@given(
    name=st.sampled_from(NAMES),
    schedule=st.builds(
        Schedule,
        st.sampled_from(["linear", "exponential", "sine", "constant"]),
        st.floats(0, 1),
        st.floats(0, 1),
        st.floats(0, 1),
    ),
    groups=st.integers(1, 40),
    seed=st.integers(0, 2**64),
    place=st.floats(0, 0.999),
    total=st.integers(1, 10_000),
)
def test_every_strategy_trains_something_and_ends_as_scheduled(
    name, schedule, groups, seed, place, total
):
    strategy = make_strategy(name, schedule)
    flags = strategy.flags(seed, int(place * total), total, groups)
    assert flags.shape == (groups,)
    assert flags.dtype == bool
    assert flags.any()
    assert np.array_equal(flags, strategy.flags(seed, int(place * total), total, groups))
    if name.startswith("coto") and schedule.p1 == 1:
        assert strategy.flags(seed, total, total, groups).all()
    rate = strategy.dropout_rate(int(place * total), total)
    assert (rate is None) == ("dropout" not in name)
    assert rate is None or 0 <= rate <= 1


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=30), st.integers(0, 2**32))
def test_only_groups_with_a_chance_are_drawn(p, seed):
    flags = sample_flags(p, uniform_rows(seed, 0, len(p)))
    assert flags.any()
    if any(p):
        chances = np.array(p)
        assert not flags[chances == 0].any()
        assert flags[chances == 1].all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: make_strategy("cotto"), "strategy 'cotto': did you mean 'coto'\\? expected one"),
        (lambda: make_strategy("coto", survival=2), "survival: got 2"),
        (lambda: make_strategy("coto", dropout=-1), "dropout: got -1"),
        (lambda: make_strategy("coto", stop_at=1.2), "stop_at: got 1.2"),
        (lambda: Strategy("x", kind="gate"), "kind: got 'gate', expected one of none, skip"),
        (lambda: Strategy("x", placement="left"), "placement: got 'left'"),
        (lambda: Strategy("x", "none", stop_at=0.5), "stop_at: got 0.5, expected None"),
        (lambda: make_strategy("coto").flags(-1, 0, 10, 4), "seed: got -1"),
        (lambda: make_strategy("coto").flags(0, 0, 10, 0), "groups: got 0"),
        (lambda: relative_depths([0.5, 0.0]), "depth: got"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
