"""Players: blocks or single adapters, joined or not, of one encoder or two."""

import pytest

from coto.analysis.subsets import kept_modules, players
from coto.errors import CotoError

NAMES = {"query": "q_proj", "key": "k_proj", "value": "v_proj"}


def modules(stack: str, layers: int) -> list[str]:
    return [f"{stack}.{layer}.attn.{name}" for layer in range(layers) for name in NAMES.values()]


ONE = modules("encoder.layers", 12)
TWO = modules("text.layers", 4) + modules("vision.layers", 4)


def test_a_block_is_one_player_in_order_of_depth():
    game = players(reversed(ONE), "block", NAMES)
    assert [player.layer for player in game] == list(range(12))
    assert game[10].name == "encoder.layers.10"
    assert game[10].modules == {f"encoder.layers.10.attn.{own}" for own in NAMES.values()}


def test_single_adapters_are_named_by_our_names_of_projections():
    game = players(TWO, "module", NAMES)
    assert len(game) == len(TWO)
    assert {(player.stack, player.projection) for player in game} == {
        (stack, name) for stack in ("text.layers", "vision.layers") for name in NAMES
    }
    assert all(len(player.modules) == 1 for player in game)


@pytest.mark.parametrize("unit", ["block", "module"])
@pytest.mark.parametrize("groups", [None, 1, 3, 4, 5, 99])
@pytest.mark.parametrize("names", [ONE, TWO])
def test_players_share_out_all_modules(names, groups, unit):
    game = players(names, unit, NAMES, groups)
    assert sorted(module for player in game for module in player.modules) == sorted(names)
    assert len({player.name for player in game}) == len(game)
    assert kept_modules(game, [True] * len(game)) == set(names)
    assert kept_modules(game, [False] * len(game)) == frozenset()


def test_neighbours_are_joined_within_their_encoder():
    game = players(TWO, "block", NAMES, 4)
    assert [player.name for player in game] == [
        *("text.layers.0-1", "text.layers.2-3"),
        *("vision.layers.0-1", "vision.layers.2-3"),
    ]
    assert kept_modules(game, [True, False, False, False]) == set(TWO[:6])


def test_an_unknown_unit_is_told():
    with pytest.raises(CotoError, match="players = 'layer': expected block or module"):
        players(ONE, "layer", NAMES)
