"""Runs every example of docs/method.md, and the doctests of the package."""

import doctest
import importlib
import pkgutil
import re
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from safetensors.torch import load_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

import coto.method
from coto.method.gate import AdapterGate, adapter_layers

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```python ?(.*?)\n(.*?)^```", re.MULTILINE | re.DOTALL)
PAGE = (ROOT / "docs/method.md").read_text(encoding="utf-8")
BLOCKS = BLOCK.findall(PAGE)
SETUP = next(code for kind, code in BLOCKS if kind == "setup")
EXAMPLES = [code for kind, code in BLOCKS if kind == ""]


README = [code for _, code in BLOCK.findall((ROOT / "README.md").read_text(encoding="utf-8"))]


def title(code):
    """Name an example by the heading above it and its first import."""
    if code in README:
        return "README"
    headings = re.findall(r"^## (.*)$", PAGE[: PAGE.index(code)], re.MULTILINE)
    return f"{headings[-1]}-{code.splitlines()[0].split()[-1]}"


@pytest.mark.parametrize("code", [*EXAMPLES, *README], ids=map(title, [*EXAMPLES, *README]))
def test_example_runs_trains_and_leaves_a_whole_model(code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    names = {}
    exec(SETUP, names)
    before = {n: p.detach().clone() for n, p in names["model"].named_parameters()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exec(code, names)
    model = names["model"]
    assert not any(layer._forward_pre_hooks for _, layer in adapter_layers(model))
    moved = {n for n, p in model.named_parameters() if not torch.equal(before[n], p)}
    if "gate.set" not in code:
        assert sum("lora_B" in name for name in moved) == 8  # every adapter of 4 blocks has trained
        assert all("lora_" in name or "classifier" in name for name in moved)


def test_the_trl_recipe_trains_with_the_gate_on(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    vocabulary = {word: i for i, word in enumerate(("<pad>", "<eos>", "come", "together", "now"))}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(WordLevel(vocabulary, unk_token="<eos>")),
        pad_token="<pad>",
        eos_token="<eos>",
    )
    tokenizer.backend_tokenizer.pre_tokenizer = Whitespace()
    shape = LlamaConfig(
        vocab_size=len(vocabulary),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=4,
        num_attention_heads=2,
    )
    texts = Dataset.from_dict({"text": ["come together", "come now", "together now"] * 8})
    masks = []
    monkeypatch.setattr(
        AdapterGate,
        "set",
        lambda gate, flags, kept=AdapterGate.set: masks.append(flags) or kept(gate, flags),
    )
    names = {"causal_model": LlamaForCausalLM(shape), "texts": texts, "tokenizer": tokenizer}
    recipe = next(code for kind, code in BLOCKS if kind == "trl")
    # TRL wants a GPU unless told otherwise.
    exec(recipe.replace("report_to=[]", "report_to=[], use_cpu=True, bf16=False"), names)
    assert names["trainer"].state.global_step == 20
    assert any(0 < sum(flags) < 4 for flags in masks)
    saved = load_file(tmp_path / "out/adapter/adapter_model.safetensors")
    assert sum(bool(t.any()) for name, t in saved.items() if "lora_B" in name) == 4 * 7
    assert not any(layer._forward_pre_hooks for _, layer in adapter_layers(names["trainer"].model))


LOAD = """
import sys
import coto  # the environment's torchvision may need it, see coto/compat.py; from here on it fails
sys.modules["coto"] = None
import peft, torch
from transformers import BertForSequenceClassification
base = BertForSequenceClassification.from_pretrained("base", local_files_only=True)
model = peft.PeftModel.from_pretrained(base, "adapter").eval()
torch.save(model(torch.arange(8)[None]).logits, "logits.pt")
"""


def test_a_trained_adapter_loads_without_this_package(tmp_path):
    names = {}
    exec(SETUP.replace("model = ", f"base.save_pretrained('{tmp_path}/base')\nmodel = "), names)
    exec(next(code for code in EXAMPLES if "coto.step" in code), names)
    names["model"].save_pretrained(tmp_path / "adapter")
    expected = names["model"].eval()(torch.arange(8)[None]).logits
    subprocess.run([sys.executable, "-c", LOAD], cwd=tmp_path, check=True, capture_output=True)
    assert torch.equal(torch.load(tmp_path / "logits.pt"), expected)


def test_importing_the_package_costs_nothing():
    code = "import sys, coto, coto.method; assert not {'torch', 'transformers'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_method_needs_nothing_of_the_workflow():
    code = (
        "import sys; before = set(sys.modules); "
        "from coto import AdapterGate, CoToCallback, Schedule, progressive_training; "
        "ours = {n for n in set(sys.modules) - before if n.startswith('coto.')}; "
        "print(*sorted(n for n in ours if not n.startswith('coto.method')),"
        "      *(n for n in ('pydantic', 'pandas', 'datasets') if n in sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=True
    )
    # The import hook for torchvision, of the standard library alone.
    assert done.stdout.strip() == "coto.compat"


def test_the_page_has_the_promised_examples():
    headings = [title(code).split("-")[0] for code in EXAMPLES]
    assert {"Hugging Face Trainer", "Plain PyTorch", "Accelerate"} <= set(headings)
    assert {kind for kind, _ in BLOCKS} == {"setup", "", "trl"}
    for code in EXAMPLES:  # "ten-line examples": imports and blank lines apart
        assert len([ln for ln in code.splitlines() if ln and " import " not in ln]) <= 12


def test_every_name_on_the_page_exists():
    for name in re.findall(r"^\| `(coto\.[\w.]+)` \|", PAGE, re.MULTILINE):
        module, _, attribute = name.rpartition(".")
        assert getattr(importlib.import_module(module), attribute).__doc__


@pytest.mark.parametrize("name", [m.name for m in pkgutil.iter_modules(coto.method.__path__)])
def test_docstring_examples(name):
    module = importlib.import_module(f"coto.method.{name}")
    assert doctest.testmod(module).failed == 0
