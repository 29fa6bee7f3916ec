"""Replayed blocks: what is computed again, what is kept, and that the model is left as it was."""

import pytest
import torch
from torch import nn

from coto.errors import CotoError
from coto.models.weights import replaying

BLOCKS, CALLS, BYTES = 4, 3, 2 * 5 * 4  # bytes of one output


class Block(nn.Linear):
    """A linear block that counts, and may answer with a tuple."""

    def __init__(self, in_tuples):
        super().__init__(5, 5)
        self.in_tuples, self.computed = in_tuples, 0

    def forward(self, x, past_key_values=None):
        self.computed += 1
        output = super().forward(x)
        return (output, None) if self.in_tuples else output


class Stacked(nn.Module):
    def __init__(self, in_tuples):
        super().__init__()
        torch.manual_seed(0)
        self.encoder = nn.ModuleDict({"layer": nn.ModuleList(Block(in_tuples) for _ in range(4))})
        self.other = nn.Sequential(Block(False), Block(False))

    def forward(self, x, **kwargs):
        for block in self.encoder["layer"]:
            x = block(x, **kwargs)
            x = x[0] if block.in_tuples else x
        return x

    @property
    def blocks(self):
        return list(self.encoder["layer"])

    def counts(self):
        found = [block.computed for block in self.blocks]
        for block in self.blocks:
            block.computed = 0
        return found


STACK = "encoder.layer"
INPUTS = torch.randn(CALLS, 2, 5, generator=torch.Generator().manual_seed(1))


@pytest.fixture(params=[False, True], ids=["tensors", "tuples"])
def model(request):
    return Stacked(request.param)


@torch.inference_mode()
def run(model):
    return torch.stack([model(x) for x in INPUTS])


def move(model, place):
    with torch.no_grad():
        model.blocks[place].weight += 1


@pytest.mark.parametrize(
    ("limit", "kept"),
    [
        (10**6, BLOCKS * CALLS),
        (0, 0),
        (BYTES - 1, 0),
        (6 * BYTES + 1, 6),  # the first call's four blocks, and two of the second's
    ],
)
def test_blocks_from_the_lowest_changed_one_on_are_computed(model, limit, kept):
    with replaying(model, [STACK], limit) as replay:
        replay.begin({STACK: 0})
        run(model)
        assert model.counts() == [CALLS] * BLOCKS
        shared = [min(CALLS, len(range(place, kept, BLOCKS))) for place in range(BLOCKS)]
        replay.begin({})
        run(model)
        assert model.counts() == [CALLS - n for n in shared]
        for place in (2, 3, 0, 1, 2):
            move(model, place)
            replay.begin({STACK: place})
            found = run(model)
            counts = model.counts()
            assert counts[place:] == [CALLS] * (BLOCKS - place)
            if limit == 10**6:
                assert counts[:place] == [0] * place
            assert torch.equal(found, run_plainly(model))
            assert sum(map(len, replay._outputs.values())) * BYTES <= limit


def run_plainly(model):
    """The model's outputs, with its blocks' own forward."""
    other = Stacked(model.blocks[0].in_tuples)
    other.load_state_dict(model.state_dict())
    return run(other)


def test_room_is_given_back(model):
    with replaying(model, [STACK], BLOCKS * CALLS * BYTES) as replay:
        for place in (0, 3, 1, 0, 2):
            replay.begin({STACK: place})
            run(model)
            model.counts()
        replay.begin({})
        run(model)
        assert model.counts() == [0] * BLOCKS
        assert replay._room == 0


def test_a_replayed_output_is_the_object_itself(model):
    block = model.blocks[0]
    with replaying(model, [STACK]) as replay:
        replay.begin({})
        first = block(INPUTS[0])
        replay.begin({STACK: 1})
        assert block(INPUTS[0]) is first


def test_stacks_change_on_their_own(model):
    with replaying(model, [STACK, "other"]) as replay:
        replay.begin({})
        run(model), model.other(INPUTS[0])
        replay.begin({"other": 1})
        model.counts()
        run(model), model.other(INPUTS[0])
        assert model.counts() == [0] * BLOCKS
        assert [block.computed for block in model.other] == [1, 2]
        assert replay.computed == {STACK: BLOCKS * CALLS * BYTES, "other": 3 * BYTES}


@pytest.mark.parametrize("fails", [False, True])
def test_forward_is_the_blocks_own_again(model, fails):
    def own(x):
        return Block.forward(model.blocks[1], x)

    model.blocks[1].forward = own
    try:
        with replaying(model, [STACK, "other"]):
            assert all("forward" in vars(block) for block in [*model.blocks, *model.other])
            assert model.blocks[1].forward is not own
            if fails:
                raise ValueError
    except ValueError:
        pass
    assert vars(model.blocks[1])["forward"] is own
    rest = [model.blocks[0], *model.blocks[2:], *model.other]
    assert not any("forward" in vars(block) for block in rest)


def test_a_kv_cache_is_refused(model):
    with (
        replaying(model, [STACK]),
        pytest.raises(CotoError, match=r"^encoder\.layer\.0: a block with a KV cache cannot"),
    ):
        model(INPUTS[0], past_key_values=object())


@pytest.mark.parametrize("stack", ["encoder.layers", "encoder", "encoder.layer.0"])
def test_what_is_no_list_of_blocks_is_told(model, stack):
    with (
        pytest.raises(CotoError, match=f"^adapter: '{stack}': expected a list of blocks"),
        replaying(model, [STACK, stack]),
    ):
        pass
    assert not any("forward" in vars(block) for block in model.blocks)
