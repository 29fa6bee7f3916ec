"""The experiment configuration as typed models.

Everything that a config file may say is a field here or in the modules that this one is made of,
with its default and its meaning. Unknown keys are refused at every level, and numbers are read
strictly: text that looks like a number, such as YAML's reading of ``1e-4``, is an error and not a
guess.
"""

from typing import Annotated, Literal

from pydantic import Field

from coto.config.base import Model, Positive, Rate, Seed
from coto.config.definitions import Adapter, Backbone, Strategy
from coto.config.suites import Study, Suite


class Data(Model):
    """Where rows come from."""

    mirror: str | None = Field(
        None, description="Directory laid out as the hub, <mirror>/<hub id>; read instead of it."
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
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "auto",
        description="Of autocast. auto: bf16 where it is fast, on GPUs since Ampere and CPUs with "
        "AMX, else fp32. fp16 scales the loss and needs a GPU.",
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
