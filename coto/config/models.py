"""The experiment configuration as typed models.

Everything that a config file may say is a field here, in the models that this one is made of, or in
the section of a measurement (:mod:`coto.measurements`), with its default and its meaning. Unknown
keys are refused at every level, and numbers are read strictly: text that looks like a number, such
as YAML's reading of ``1e-4``, is an error and not a guess.
"""

from typing import Annotated, Literal, TypeVar

from pydantic import Field

from coto.adapters.kinds import Adapter
from coto.method.schedule import Schedule
from coto.method.strategies import STRATEGIES
from coto.models.settings import Backbone, Evaluation, Head, Training
from coto.registry import OneOf
from coto.settings import Model, Positive, Probability, Rate, Seed
from coto.tasks.task import Rows

SectionT = TypeVar("SectionT", bound=Model)
# The paper's schedule, and so the defaults of every strategy that has one.
RAMP = Schedule()
# The strategies whose difference is the effect of CoTo.
ARMS = ("vanilla", "coto")


class Data(Model):
    """Where rows come from."""

    mirror: str | None = Field(
        None, description="Directory laid out as the hub, <mirror>/<hub id>; read instead of it."
    )


class Strategy(Model):
    """How adapters are switched off during training (paper, Section 3)."""

    kind: Annotated[str, OneOf(STRATEGIES)] = Field(
        description="Rule that draws the mask of each optimizer step."
    )
    schedule: Literal["linear", "exponential", "sine", "constant"] = Field(
        RAMP.shape, description="Shape of the activation probability p(t)."
    )
    p0: Probability = Field(RAMP.p0, description="p at the first step.")
    p1: Probability = Field(RAMP.p1, description="p at the end of the ramp.")
    ramp: Probability = Field(RAMP.ramp, description="Share of the steps over which p rises.")
    unit: Literal["block", "module"] = Field(
        "block", description="What one coin switches: a transformer block's adapters, or each one."
    )
    dropout: Probability = Field(0.25, description="Input dropout (dropout, progressive-dropout).")
    survival: Probability = Field(0.5, description="Survival probability (stochastic-depth).")
    stop_at: Probability | None = Field(
        None, description="Training ends once p has reached this (early-stopped CoTo)."
    )


class Jobs(Model):
    """What a cluster reserves for one job of a suite that uses a model.

    A job that was killed, or ran out of memory or time, is tried again if the profile says so
    (`retries`), each time with more of both.
    """

    memory_mb: Positive = Field(4000, description="Memory of the first attempt.")
    max_memory_mb: Positive | None = Field(
        None, description="Most memory that any attempt asks for. Null: twice that of the first."
    )
    minutes: Positive = Field(240, description="Time limit of the first attempt.")
    max_minutes: Positive | None = Field(
        None, description="Longest time limit of any attempt. Null: three times that of the first."
    )
    gpus: Positive = Field(
        1, description="GPUs of a training run, where `device` is cuda; all other jobs ask for one."
    )
    gpu_model: str | None = Field(
        None, description="GPU model to ask for, as the cluster calls it. Null: any."
    )

    short: bool = Field(
        False,
        description="Whether jobs take minutes: several of a kind then share a cluster's job, one "
        "after another, as many as the profile's `group-components` say.",
    )

    def memory_of(self, attempt: int) -> int:
        """Memory of an attempt, the first being 1, in MB: each time half as much again."""
        most = self.max_memory_mb or 2 * self.memory_mb
        return min(self.memory_mb * (attempt + 1) // 2, most)

    def minutes_of(self, attempt: int) -> int:
        """Time limit of an attempt, the first being 1, in minutes."""
        return min(self.minutes * attempt, self.max_minutes or 3 * self.minutes)


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
    head: Head = Field(
        "linear",
        description="What makes classes of features. linear: a layer that is trained in full. "
        "frozen: a fresh layer that stays as it is. prototypes: scaled cosines of centred "
        "features and of class means that the frozen backbone gives on a part of the task that no "
        "seed changes. With the last two adapters are all that is trained.",
    )
    logit_scale: Rate = Field(10.0, description="Factor of the cosines of head prototypes.")
    train: Training = Field(description="Training settings.")
    rows: Rows = Field(default_factory=Rows, description="Rows per part.")
    evaluation: Evaluation = Field(default_factory=Evaluation, description="How models are scored.")
    jobs: Jobs = Field(default_factory=Jobs, description="What a cluster reserves per job.")

    def section(self, model: type[SectionT]) -> SectionT | None:
        """The section of a measurement, by its model; None where it is null.

        A suite's sections are fields of the class that :func:`coto.workflow.load.config_model`
        makes of this one.
        """
        return next((part for part in vars(self).values() if isinstance(part, model)), None)

    def need(self, model: type[SectionT]) -> SectionT:
        """The section, of a job that there is only where it is not null."""
        section = self.section(model)
        assert section is not None
        return section


class Study(Model):
    """A question that a suite is asked with other strategies, rates, lengths or snapshots.

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
    steps: tuple[Annotated[float, Field(gt=0, le=1)], ...] | None = Field(
        None,
        min_length=1,
        description="Shares of the suite's steps that runs are trained for, each on its own: the "
        "study shows how the effect of CoTo depends on the length, and on the learning rate.",
    )
    snapshots: tuple[Annotated[float, Field(gt=0, le=1)], ...] = Field(
        (), description="Shares of the training after which runs are scored, merged and pruned."
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
        description="Smallest effect of interest, in accuracy points. A claim is not supported "
        "when so large an effect is excluded. One point is a quarter of the smallest gain that the "
        "paper reports for averaged factors and for pruning (3.9); single tasks use half of it, as "
        "the paper's own gains with CLIP are 0.4 to 0.5.",
    )
    sensitivity: Rate = Field(
        5.0,
        description="How many margins vanilla's adapters must be worth (score with all minus with "
        "none) for claims on pruning, merging, stability and balance. Five: removing a part of "
        "the adapters can then cost several margins, which CoTo could win back.",
    )
    barrier: Rate = Field(
        2.0,
        description="How many margins the middle of vanilla's path between two seeds must lie "
        "below its ends, for claims on connectivity. Two: halving the barrier is then an effect "
        "as large as the margin.",
    )
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = Field(
        0.95, description="Level of all intervals; tests are at one minus it."
    )
    resamples: Positive = Field(
        10_000, description="Sign patterns of a permutation test, where all are too many."
    )
    seed: Seed = Field(0, description="Of the resampling.")


class Report(Model):
    """Tables, figures and claims."""

    tables: Tables = Field(default_factory=Tables, description="Looks of tables.")
    figures: Figures = Field(default_factory=Figures, description="Looks of figures.")
    statistics: Statistics = Field(
        default_factory=Statistics, description="Intervals and verdicts."
    )
    learning_rate_edge: Literal["flag", "error"] = Field(
        "flag",
        description="What a best learning rate at an end of its grid is, beyond which a better one "
        "may lie. error: the run ends with one line for each such arm, after its table of rates.",
    )


class Config(Model):
    """The whole configuration."""

    results: str = Field("results", description="Folder that everything is written to.")
    plugins: tuple[str, ...] = Field(
        (),
        description="Python files with further tasks, adapter kinds, strategies, operators, "
        "pruning methods, measurements, tables, figures or claims (docs/extending.md).",
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto",
        description="auto: a GPU where a job sees one. cuda: also asks a cluster for one per job.",
    )
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "auto",
        description="Of autocast. auto: bf16 on GPUs since Ampere, else fp32; on a CPU the record "
        "says how many times faster products in bf16 would be, as the first job of a results "
        "folder has measured. fp16 scales the loss and needs a GPU.",
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
    studies: dict[str, Study] = Field(
        default_factory=dict, description="Studies by name: variations of suites, on request."
    )
    report: Report = Field(default_factory=Report, description="Tables, figures and claims.")


class Facts(Model):
    """What a reader of a suite's tables must know."""

    backbone: str = ""
    kind: str = Field("", description="Of its tasks: text, language or image.")
    head: str | None = Field(None, description="Where it is not trained.")
    shots: int | None = None
    test_rows: int | None = None
    subnetwork_rows: int | None = None
    loss_on: str | None = Field(None, description="Language models: the tokens of the loss.")
    protocol: str | None = Field(None, description="Language models: how answers are found.")
