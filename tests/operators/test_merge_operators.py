"""What holds for every merging operator, by its name."""

import importlib
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from random_adapters import KINDS, close, random_adapter, random_base, shapes

from coto.adapters.delta import deltas
from coto.errors import CotoError
from coto.operators.operator import OPERATORS, Operator

# With these settings the merge of an adapter with itself is that adapter.
REPRODUCING = {
    "fusion": {},
    "ensemble": {},
    "lora-align": {},
    "lora-lego": {},
    "task-arithmetic": {"scale": "1/n"},
    "ties": {"keep": 1.0},
    "dare": {"drop": 0.0, "scale": "1/n"},
    "dare-ties": {"drop": 0.0},
    "knots": {"keep": 1.0},
}


def reproducing(name: str, count: int) -> dict:
    return {key: 1 / count if value == "1/n" else value for key, value in REPRODUCING[name].items()}


def test_tables_list_operators_in_this_order_with_a_line_each():
    assert list(OPERATORS) == list(REPRODUCING)
    for entry in OPERATORS.values():
        module, function = entry.code.split(":")
        assert callable(getattr(importlib.import_module(module), function))
        assert entry.summary
    assert OPERATORS["dare-ties"].summary.endswith("merged by TIES")


@pytest.mark.parametrize("name", OPERATORS)
@given(kind=st.sampled_from(KINDS), shape=shapes, seed=st.integers(0, 99), count=st.integers(1, 4))
@settings(max_examples=12, deadline=None)
def test_an_adapter_with_itself_is_that_adapter(name, kind, shape, seed, count):
    adapter = random_adapter(kind, shape, seed)
    base = random_base(adapter)
    found = OPERATORS[name]([adapter] * count, [1 / count] * count, base, reproducing(name, count))
    close(found.deltas, deltas(adapter, base))


@pytest.mark.parametrize("name", [name for name in OPERATORS if name != "lora-align"])
@given(kind=st.sampled_from(KINDS), shape=shapes, seed=st.integers(0, 99))
@settings(max_examples=8, deadline=None)
def test_the_order_of_adapters_does_not_matter(name, kind, shape, seed):
    # DARE draws masks by position: without dropping, order is all that is left. LoRA-align moves
    # all adapters towards the first.
    adapters = [random_adapter(kind, shape, seed + i) for i in range(3)]
    base = random_base(adapters[0])
    weights = [1 / 3] * 3 if name == "lora-lego" else [0.5, 0.3, 0.2]
    given_settings = {"drop": 0.0} if "drop" in OPERATORS[name].settings else {}
    forward = OPERATORS[name](adapters, weights, base, given_settings)
    backward = OPERATORS[name](adapters[::-1], weights[::-1], base, given_settings)
    # A singular vector's sign is arbitrary, and so is the sign elected where values cancel.
    close(forward.deltas, backward.deltas)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", OPERATORS)
def test_a_merged_adapter_has_the_merged_change(name, kind):
    adapters = [random_adapter(kind, (7, 6, 2), seed) for seed in range(3)]
    base = random_base(adapters[0])
    untouched = [deltas(adapter, base) for adapter in adapters]
    found = OPERATORS[name](adapters, [1 / 3] * 3, base)
    low_rank = OPERATORS[name].space == "factors" or (
        name in ("ensemble", "task-arithmetic") and kind != "dora"
    )
    low_rank = low_rank or (name == "knots" and kind == "lora")
    assert (found.adapter is not None) == low_rank
    if found.adapter is not None:
        close(deltas(found.adapter, base), found.deltas)
        assert len({factors.rank for factors in found.adapter.modules.values()}) == 1
        assert not found.adapter.heads
    for adapter, before in zip(adapters, untouched, strict=True):
        close(deltas(adapter, base), before)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", [n for n, o in OPERATORS.items() if "rank" in o.settings])
def test_a_merge_of_changes_comes_back_to_a_rank(name, kind):
    adapters = [random_adapter(kind, (7, 6, 2), seed) for seed in range(3)]
    base = random_base(adapters[0])
    whole = OPERATORS[name](adapters, [1 / 3] * 3, base)
    for rank in (2, 6):
        found = OPERATORS[name](adapters, [1 / 3] * 3, base, {"rank": rank})
        assert found.adapter.kind == "lora"
        assert {factors.rank for factors in found.adapter.modules.values()} == {rank}
        lost = sum(float((found.deltas[n] - whole.deltas[n]).square().sum()) for n in whole.deltas)
        total = sum(float(whole.deltas[n].square().sum()) for n in whole.deltas)
        assert found.report["svd_error"] == pytest.approx((lost / total) ** 0.5, abs=1e-7)
        assert (found.report["svd_error"] < 1e-7) == (rank == 6)


def test_seeds_matter_where_they_should_and_only_there():
    adapters = [random_adapter("lora", (7, 6, 4), seed) for seed in range(4)]
    base = random_base(adapters[0])
    assert {name for name, entry in OPERATORS.items() if entry.draws({})} == {
        "lora-lego",
        "dare",
        "dare-ties",
    }
    assert OPERATORS["knots"].draws({"drop": 0.5})
    for name, extra in (
        ("lora-lego", {}),
        ("dare", {}),
        ("dare-ties", {}),
        ("knots", {"drop": 0.5}),
    ):
        first, again, other = (
            OPERATORS[name](adapters, [0.25] * 4, base, {**extra, "seed": seed}).deltas
            for seed in (1, 1, 2)
        )
        assert all(torch.equal(first[n], again[n]) for n in first)
        assert any(not torch.allclose(first[n], other[n]) for n in first)


def test_different_scalings_and_ranks_are_handled_on_purpose():
    small, large = (random_adapter("lora", (7, 6, r), r, scaling=8 / r) for r in (2, 4))
    base = random_base(small)
    half = [0.5, 0.5]
    mean = {n: (deltas(small, base)[n] + deltas(large, base)[n]) / 2 for n in base}
    for name, extra in (
        ("ensemble", {}),
        ("task-arithmetic", {"scale": 0.5}),
        ("knots", {"inner": "task-arithmetic", "scale": 0.5}),
    ):
        found = OPERATORS[name]([small, large], half, base, extra)
        close(found.deltas, mean)
        assert next(iter(found.adapter.modules.values())).rank == 6
    lego = OPERATORS["lora-lego"]([small, large], half, base)
    assert next(iter(lego.adapter.modules.values())).rank == 4
    for name in ("fusion", "lora-align"):
        with pytest.raises(CotoError, match=r"ranks|scalings"):
            OPERATORS[name]([small, large], half, base)
    # Equal ranks, different scalings: alignment folds them in.
    other = random_adapter("lora", (7, 6, 2), 5, scaling=1.0)
    found = OPERATORS["lora-align"]([small, other], [0.0, 1.0], base)
    close(found.deltas, deltas(other, base))


@pytest.mark.parametrize("name", ["lora-align", "lora-lego"])
def test_hira_has_no_scaling_to_fold_in(name):
    first, second = (random_adapter("hira", (7, 6, 2), s, scaling=1.0 + s) for s in (0, 1))
    alike = random_adapter("hira", (7, 6, 2), 1, scaling=1.0)
    base = random_base(first)
    close(
        OPERATORS[name]([first, second], [0.5, 0.5], base).deltas,
        OPERATORS[name]([first, alike], [0.5, 0.5], base).deltas,
    )


def test_a_negative_weight_subtracts_a_task():
    first, second = (random_adapter("lora", (6, 5, 2), seed) for seed in (1, 2))
    base = random_base(first)
    one, two = deltas(first, base), deltas(second, base)
    expected = {n: one[n] - two[n] for n in one}
    for name, extra in (
        ("ensemble", {}),
        ("task-arithmetic", {"scale": 0.5}),
        ("knots", {"inner": "task-arithmetic", "scale": 0.5}),
    ):
        close(OPERATORS[name]([first, second], [1.0, -1.0], base, extra).deltas, expected)
    signs = OPERATORS["ties"]([first, second], [1.0, -1.0], base, {"keep": 1.0}).deltas
    assert all(torch.equal(signs[n].sign(), expected[n].sign()) for n in signs)
    with pytest.raises(CotoError, match="lora-lego: weights 1, -1: expected equal ones"):
        OPERATORS["lora-lego"]([first, second], [1.0, -1.0], base)


@pytest.mark.parametrize("name", OPERATORS)
def test_what_no_operator_can_merge_is_refused(name):
    lora = random_adapter("lora", (4, 4, 2), 0)
    base = random_base(lora)
    merge = OPERATORS[name]
    with pytest.raises(CotoError, match="kinds lora and hira"):
        merge([lora, random_adapter("hira", (4, 4, 2), 1)], [0.5, 0.5], base)
    with pytest.raises(CotoError, match=r"only some adapters have layer\.2\.query"):
        merge([lora, random_adapter("lora", (4, 4, 2), 1, modules=3)], [0.5, 0.5], base)
    with pytest.raises(CotoError, match="1 adapters and 2 weights"):
        merge([lora], [0.5, 0.5], base)
    with pytest.raises(CotoError, match=f"{name}: setting 'lambda': expected"):
        merge([lora], [1.0], base, {"lambda": 1})


def test_names_settings_and_kinds_are_checked_in_one_line():
    with pytest.raises(CotoError, match="'tie': did you mean 'ties'"):
        OPERATORS["tie"]
    with pytest.raises(CotoError, match="ties: setting 'kep': did you mean 'keep'"):
        OPERATORS["ties"].resolved({"kep": 1})
    for name, key, value, expected in (
        ("ties", "keep", "20%", "a number"),
        ("ties", "reduce", "max", "one of mean, sum"),
        ("ensemble", "rank", "8", "a whole number or null"),
        ("ensemble", "rank", True, "a whole number or null"),
        ("dare", "seed", 0.5, "a whole number"),
        ("lora-lego", "k", 2.5, "a whole number or null"),
        ("lora-lego", "output_reweighting", 1, "true or false"),
        ("lora-align", "start", None, "one of identity, rotation"),
    ):
        with pytest.raises(CotoError, match=f"{name}: {key} = {value!r}: expected {expected}$"):
            OPERATORS[name].resolved({key: value})
    assert OPERATORS["ties"].resolved({"keep": 1, "rank": 4})["keep"] == 1
    only_lora = Operator(
        name="sketch",
        summary="",
        space="factors",
        code="coto.operators.merge:merge_fusion",
        kinds=("lora",),
        why_not="W0 enters its changes",
    )
    hira = random_adapter("hira", (4, 4, 2), 0)
    with pytest.raises(CotoError, match="sketch: not defined for hira: W0 enters its changes"):
        only_lora([hira], [1.0], random_base(hira))


def test_the_table_of_operators_loads_without_torch():
    code = (
        "import sys; from coto.operators.operator import OPERATORS, PRUNING; "
        "import coto.operators.keep, coto.adapters.kinds; "
        "sys.exit('torch' in sys.modules or len(OPERATORS) + len(PRUNING) < 15)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
