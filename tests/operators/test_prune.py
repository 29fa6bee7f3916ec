"""Which adapters stay."""

import pytest

from coto.errors import CotoError
from coto.operators.prune import kept

PROJECTIONS = {"query": "query_proj", "key": "key_proj", "value": "value_proj"}


def modules(layers: int) -> list[str]:
    return [f"encoder.layer.{i}.self.{p}" for i in range(layers) for p in PROJECTIONS.values()]


def layers(keep: str, count: int) -> list[int]:
    stay = kept(modules(count), keep, PROJECTIONS)
    found = sorted({int(name.split(".")[2]) for name in stay})
    # A layer stays with all of its projections or goes with all of them.
    assert len(stay) == 3 * len(found)
    return found


@pytest.mark.parametrize("count", [3, 6, 12, 24])
def test_thirds_and_parities_partition_the_layers(count):
    everything = list(range(count))
    thirds = [layer for part in ("low", "middle", "high") for layer in layers(part, count)]
    assert thirds == everything
    assert sorted(layers("odd", count) + layers("even", count)) == everything
    assert layers("all", count) == everything


def test_twelve_layers_as_in_the_paper():
    assert layers("low", 12) == [0, 1, 2, 3]
    assert layers("middle", 12) == [4, 5, 6, 7]
    assert layers("high", 12) == [8, 9, 10, 11]
    assert layers("odd", 12) == [0, 2, 4, 6, 8, 10]  # counted from 1


@pytest.mark.parametrize("part", list(PROJECTIONS))
def test_a_projection_stays_in_every_layer(part):
    assert kept(modules(4), part, PROJECTIONS) == {
        f"encoder.layer.{i}.self.{PROJECTIONS[part]}" for i in range(4)
    }


def test_layers_count_by_position_when_only_some_are_adapted():
    names = [f"layer.{i}.query" for i in (5, 7, 11)]
    assert kept(names, "low", {"query": "query"}) == {"layer.5.query"}
    assert kept(names, "odd", {"query": "query"}) == {"layer.5.query", "layer.11.query"}


def test_bad_input_is_told():
    with pytest.raises(CotoError, match="'everyother': expected one of all"):
        kept(modules(3), "everyother", PROJECTIONS)
    with pytest.raises(CotoError, match="expected an adapter to stay"):
        kept(["layer.0.value_proj"], "key", PROJECTIONS)
    with pytest.raises(CotoError, match="layer number"):
        kept(["query"], "low", PROJECTIONS)
