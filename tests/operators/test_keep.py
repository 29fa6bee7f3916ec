"""Which adapters stay."""

import pytest

from coto.errors import CotoError
from coto.operators.keep import KEEP, Keep, kept

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


TWO = ("text", "vision")
CLIP = {"query": "q_proj", "key": "k_proj", "value": "v_proj"}


def clip_modules(text, vision):
    return [
        f"clip.{encoder}_model.encoder.layers.{i}.self_attn.{part}"
        for encoder, count in (("text", text), ("vision", vision))
        for i in range(count)
        for part in CLIP.values()
    ]


def clip_layers(keep, text=12, vision=12):
    stay = kept(clip_modules(text, vision), keep, CLIP)
    found = sorted({(name.split(".")[1], int(name.split(".")[4])) for name in stay})
    assert len(stay) == 3 * len(found)
    return [[i for encoder, i in found if encoder == f"{which}_model"] for which in TWO]


def test_clips_layers_count_within_their_encoder():
    assert clip_layers("low") == [[0, 1, 2, 3]] * 2  # CLIP-LoRA's "bottom"
    assert clip_layers("middle") == [[4, 5, 6, 7]] * 2
    assert clip_layers("high") == [[8, 9, 10, 11]] * 2
    assert clip_layers("even") == [[1, 3, 5, 7, 9, 11]] * 2
    # ViT-L/14: 12 layers of text, 24 of vision
    assert clip_layers("low", 12, 24) == [list(range(4)), list(range(8))]
    assert clip_layers("odd", 3, 6) == [[0, 2], [0, 2, 4]]


def test_one_of_clips_encoders_stays():
    assert clip_layers("text", 3, 4) == [[0, 1, 2], []]
    assert clip_layers("vision", 3, 4) == [[], [0, 1, 2, 3]]
    assert {name.rpartition(".")[2] for name in kept(clip_modules(2, 2), "key", CLIP)} == {"k_proj"}


@pytest.mark.parametrize("keep", ["text", "vision"])
def test_a_model_of_one_encoder_has_no_encoder_to_choose(keep):
    with pytest.raises(CotoError, match=f"{keep}'?: expected a model of a text and a vision"):
        kept(modules(3), keep, PROJECTIONS)


def test_split_projections_of_a_vision_transformer():
    names = [f"vit.blocks.{i}.attn.qkv.{part}" for i in range(6) for part in "qkv"]
    parts = {"query": "q", "key": "k", "value": "v", "output": "attn.proj"}
    assert kept(names, "value", parts) == {f"vit.blocks.{i}.attn.qkv.v" for i in range(6)}
    assert kept(names, "high", parts) == set(names[12:])
    names += [f"vit.blocks.{i}.attn.proj" for i in range(6)]
    assert kept(names, "output", parts) == set(names[18:])


def test_names_in_the_order_of_tables_and_one_from_outside(monkeypatch):
    known = "all odd even low middle high query key value output gate up down text vision"
    assert list(KEEP) == known.split()
    assert all(entry.summary for entry in KEEP.values())
    KEEP.add(Keep("first", "the first layer", lambda names, _: [n for n in names if ".0." in n]))
    try:
        assert layers("first", 4) == [0]
    finally:
        del KEEP["first"]
    with pytest.raises(CotoError, match="'gate': not a projection of the backbone: expected one"):
        kept(modules(3), "gate", PROJECTIONS)
