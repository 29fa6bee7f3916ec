"""Suites, what is done in them, and studies that vary them."""

from typing import Annotated, Literal

from pydantic import Field

from coto.config.base import Model, Positive, Probability, Rate, Seed
from coto.config.definitions import Adapter

OperatorName = Literal[
    "fusion",
    "ensemble",
    "lora-align",
    "lora-lego",
    "task-arithmetic",
    "ties",
    "dare",
    "dare-ties",
    "knots",
]
PruningMethod = Literal[
    "magnitude-factors-global",
    "magnitude-factors-layer",
    "magnitude-delta-global",
    "magnitude-delta-layer",
    "random-factors-global",
    "random-delta-global",
]
Keep = Literal[
    "all", "odd", "even", "low", "middle", "high", "query", "key", "value", "text", "vision"
]
# How long a training is, given in one of these ways.
LENGTHS = ("steps", "epochs", "steps_per_shot")


class TaskTraining(Model):
    """Settings that one task may override; unset ones come from the suite's `train`."""

    steps: Positive | None = Field(None, description="Optimizer steps.")
    epochs: Rate | None = Field(None, description="Passes over the data, instead of `steps`.")
    steps_per_shot: Positive | None = Field(None, description="Optimizer steps per shot, instead.")
    max_length: Positive | None = Field(None, description="Tokens a sequence is cut to.")


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
    max_length: Positive = Field(64, description="Tokens a sequence is cut to.")
    decay: Literal["linear", "cosine", "constant"] = Field(
        "linear", description="Learning rate after the warm-up."
    )
    min_lr: Annotated[float, Field(ge=0)] = Field(
        0.0, description="Learning rate that the cosine ends at."
    )
    warmup: Probability = Field(0.06, description="Share of the steps with rising learning rate.")
    weight_decay: Annotated[float, Field(ge=0)] = Field(0.0, description="Of AdamW.")
    max_grad_norm: Annotated[float, Field(ge=0)] = Field(
        1.0, description="Gradient clipping; 0 switches it off."
    )
    backbone_dropout: Probability = Field(0.0, description="Dropout inside the frozen backbone.")
    gradient_checkpointing: bool = Field(
        False, description="Recompute activations in the backward pass, to save memory."
    )
    loss_on: Literal["answer", "all"] = Field(
        "answer", description="Language models: tokens that the loss counts, in both arms."
    )
    layout: Literal["length", "packed", "shuffled"] = Field(
        "length",
        description="Batches of items of similar length, several items packed into each sequence "
        "(language models), or plain shuffling.",
    )
    augmentation: Literal["none", "shift", "crop"] = Field(
        "none",
        description="Images: small shifts and turns, or CLIP-LoRA's random crops and flips.",
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
    per_task: dict[str, TaskTraining] = Field(
        default_factory=dict, description="Overrides by task name."
    )


class Rows(Model):
    """Rows used per part; the ones with the lowest content hash. Null: all."""

    train: Positive | None = Field(None, description="Rows to train on.")
    validation: Positive | None = Field(None, description="Rows to choose learning rates on.")
    test: Positive | None = Field(
        None, description="Rows that are reported, of each evaluation set."
    )
    shots: Positive | None = Field(
        None, description="Training rows per class, drawn with the run's seed (few-shot)."
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
    standard: tuple[str, ...] = Field(
        (), description="Language models: built-in tasks of lm-eval to score as well."
    )


class Jobs(Model):
    """What a cluster reserves for one job of a suite that uses a model."""

    memory_mb: Positive = Field(4000, description="Memory.")
    minutes: Positive = Field(240, description="Time limit.")


class Merging(Model):
    """Merging operators, wherever a suite merges."""

    settings: dict[OperatorName, dict[str, bool | int | float | str | None]] = Field(
        default_factory=dict,
        description="Settings by operator that are not the operator's own (docs/operators.md).",
    )
    repeats: Positive = Field(
        5, description="Seeds that an operator which draws, such as LoRA-LEGO, is repeated with."
    )
    save: bool = Field(
        True, description="Whether merges of low rank are kept as ordinary PEFT adapters."
    )


class Interpolate(Model):
    """Merging of two or three seeds of one arm (linear mode connectivity)."""

    weights: tuple[Probability, ...] = Field(
        tuple(round(0.1 * i, 1) for i in range(11)),
        description="Weights of the second seed.",
    )
    operators: tuple[OperatorName, ...] = Field(
        ("fusion", "ensemble"),
        description="Operators at all weights. fusion averages A and B, ensemble averages ΔW.",
    )
    halfway: tuple[OperatorName, ...] = Field(
        (), description="Further operators, at equal weights only."
    )


class Merge(Model):
    """Merging the suite's tasks into one adapter; each task keeps its head."""

    operators: tuple[OperatorName, ...] = Field(
        (
            *("fusion", "ensemble", "lora-align", "lora-lego", "task-arithmetic"),
            *("ties", "dare", "dare-ties", "knots"),
        ),
        min_length=1,
        description="Merging operators.",
    )
    weights: dict[str, float] | None = Field(
        None, description="Weight per task. Null: 1/number of tasks."
    )


class Unstructured(Model):
    """Unstructured pruning: the entries of A and B, or of ΔW, that are set to zero."""

    methods: tuple[PruningMethod, ...] = Field(
        (
            *("magnitude-factors-global", "magnitude-factors-layer", "magnitude-delta-global"),
            *("magnitude-delta-layer", "random-factors-global"),
        ),
        min_length=1,
        description="What goes first, of what, and ranked over all layers or within each.",
    )
    sparsities: tuple[Annotated[float, Field(ge=0, lt=1)], ...] = Field(
        (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95),
        min_length=2,
        description="Shares of the entries that go, ascending.",
    )
    repeats: Positive = Field(3, description="Draws of random pruning.")


class Prune(Model):
    """Pruning without retraining."""

    keep: tuple[Keep, ...] = Field(
        ("all", "odd", "even", "low", "middle", "high", "query", "key", "value"),
        description="Which adapters stay: alternate layers, a third of the layers, one projection.",
    )
    unstructured: Unstructured | None = Field(
        default_factory=Unstructured, description="Null: only whole adapters are removed."
    )


class Subnetworks(Model):
    """Scores with subsets of the adapters: Shapley values, dropout stability, Theorem 3.1."""

    tasks: tuple[str, ...] | None = Field(None, min_length=1, description="Null: all.")
    seeds: tuple[Seed, ...] | None = Field(None, min_length=1, description="Null: all.")
    rows: Positive | None = Field(
        None, description="Test rows used, of each evaluation set. Null: all."
    )
    players: Literal["block", "module"] = Field(
        "block", description="What contributes: a block's adapters together, or each adapter."
    )
    groups: Positive | None = Field(
        None, description="Neighbouring players are joined until so many are left. Null: never."
    )
    levels: Positive = Field(
        10,
        description="Probabilities of Shapley's integral. Up to 12 players all subsets are used.",
    )
    pairs: Annotated[int, Field(ge=2)] = Field(
        25, description="Antithetic pairs of subsets per pair of probabilities."
    )
    samples: Annotated[int, Field(ge=2)] = Field(
        50, description="Subsets at most of each size, for dropout stability."
    )
    keep_probabilities: tuple[Probability, ...] = Field(
        tuple(round(0.1 * i, 1) for i in range(11)),
        min_length=2,
        description="Chances q that a layer's adapter is kept.",
    )
    early_stop: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        None,
        description="Share of the training after which CoTo is looked at as well (early-stopped).",
    )


class Geometry(Model):
    """Cosines and distances of ΔW between the runs of a suite."""

    tasks: tuple[str, ...] | None = Field(None, min_length=1, description="Null: all.")


class Overhead(Model):
    """Training time, both arms interleaved in one process that has the machine's threads."""

    task: str | None = Field(None, description="Task whose batches are used. Null: the first.")
    steps: Positive = Field(40, description="Timed optimizer steps per arm, over the schedule.")
    batch_size: Positive | None = Field(None, description="Null: as in training.")


class Suite(Model):
    """A family of tasks on one backbone, and everything that is done with them."""

    backbone: str = Field(description="Name of a backbone.")
    tasks: tuple[str, ...] = Field(min_length=1, description="Names of tasks.")
    adapters: tuple[str, ...] = Field(min_length=1, description="Names of adapters.")
    adapter_settings: dict[str, Adapter] = Field(
        default_factory=dict, description="Adapters of this suite that are not as defined above."
    )
    strategies: tuple[str, ...] = Field(("vanilla", "coto"), description="Names of strategies.")
    seeds: tuple[Seed, ...] = Field((0, 1), min_length=1, description="Seeds of the runs.")
    learning_rates: dict[str, tuple[Rate, ...]] = Field(
        description="Grid per adapter, or per arm ('lora-coto'), which goes before it. With more "
        "than one value the best on the validation part is used."
    )
    selection_seeds: tuple[Seed, ...] | None = Field(
        None, description="Seeds whose validation scores choose the learning rate. Null: all."
    )
    train: Training = Field(description="Training settings.")
    rows: Rows = Field(default_factory=Rows, description="Rows per part.")
    evaluation: Evaluation = Field(default_factory=Evaluation, description="How models are scored.")
    jobs: Jobs = Field(default_factory=Jobs, description="What a cluster reserves per job.")
    merging: Merging = Field(default_factory=Merging, description="Merging operators.")
    interpolate: Interpolate | None = Field(
        default_factory=Interpolate, description="Null: seeds are not merged."
    )
    merge: Merge | None = Field(default_factory=Merge, description="Null: no multi-task merging.")
    prune: Prune | None = Field(default_factory=Prune, description="Null: no pruning.")
    subnetworks: Subnetworks | None = Field(
        default_factory=Subnetworks, description="Null: no Shapley values, no dropout stability."
    )
    geometry: Geometry | None = Field(
        default_factory=Geometry, description="Null: weights are not compared."
    )
    overhead: Overhead | None = Field(
        default_factory=Overhead, description="Null: training time is not measured."
    )


class Study(Model):
    """A question that a suite is asked with other strategies, rates or snapshots.

    Its runs are made on request only (`snakemake <name of the study>`), not by `all`. What is null
    is the suite's.
    """

    suite: str = Field(description="Name of the suite that is varied.")
    tasks: tuple[str, ...] | None = Field(None, min_length=1, description="Names of tasks.")
    adapters: tuple[str, ...] | None = Field(None, min_length=1, description="Names of adapters.")
    strategies: tuple[str, ...] | None = Field(
        None, min_length=1, description="Names of strategies."
    )
    seeds: tuple[Seed, ...] | None = Field(None, min_length=1, description="Seeds of the runs.")
    learning_rates: tuple[Rate, ...] | None = Field(
        None,
        min_length=1,
        description="Rates that all arms are trained, merged and pruned with, each on its own.",
    )
    snapshots: tuple[Annotated[float, Field(gt=0, le=1)], ...] = Field(
        (), description="Shares of the training after which runs are scored, merged and pruned."
    )
