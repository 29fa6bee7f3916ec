"""What the paper claims and how each claim is tested at this scale.

A claim is an entry of ``CLAIMS``: what is said, which quantity tests it, in which direction, and
where the paper reports it. ``UNTESTED`` lists what the paper claims and no stage here measures. The
statements are the abstract's, in short.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import pandas as pd

from coto.report import quantities, reported
from coto.report.reported import Reported

Frames = Mapping[str, pd.DataFrame]


@dataclass(frozen=True)
class Claim:
    """A claim and its test.

    Attributes:
        statement: what the paper says.
        test: what is compared here, in words.
        table: the table that shows it.
        quantity: rows of one value per (suite, task, adapter, strategy, seed).
        reported: the paper's numbers by adapter kind.
        direction: 1 where CoTo should have the larger value, -1 where the smaller.
        margin: smallest effect of interest, as a multiple of the config's ``report.margin``.
        fixed_margin: the same in percent, for what is no accuracy.
        needs: what a run must have for the test.
        replicates: what the seeds of the test are called.
        role: ``sensitivity`` for a second look at a claim that another entry tests.
        caution: what a reader must know about the independence of the pairs.
    """

    statement: str
    test: str
    table: str
    quantity: Callable[[Frames], pd.DataFrame]
    reported: Mapping[str, tuple[Reported, ...]] = field(default_factory=dict)
    direction: Literal[1, -1] = 1
    margin: float = 1.0
    fixed_margin: float | None = None
    unit: str = "points"
    needs: str = "the stage that measures it"
    replicates: str = "seeds"
    role: str = "main"
    caution: str = ""


_SHARED_PATH = (
    "Pairs of seeds that share a seed are not independent; p treats them as if they were."
)
_SHARED_MERGE = (
    "The tasks of one merged model are not independent. The interval, which resamples seeds as a "
    "whole, allows for it; p treats them as if they were."
)


def _space(rows: pd.DataFrame, name: str) -> pd.DataFrame:
    return rows[rows["space"] == name]


CLAIMS: dict[str, Claim] = {
    "single-task": Claim(
        statement="CoTo consistently boosts single-task performance, with LoRA and its variants.",
        test="Headline score on the test part, CoTo minus vanilla.",
        table="single_task",
        quantity=lambda f: quantities.headline(quantities.test_scores(f["train"], f["select"])),
        reported={adapter: reported.single_task(adapter) for adapter in reported.PAPER_NAMES},
        # The paper's own gains on vision are 0.4 to 0.5 points.
        margin=0.5,
        needs="test scores of both arms",
    ),
    "lmc-midpoint": Claim(
        statement="CoTo promotes linear mode connectivity: two seeds can be averaged.",
        test="Score half-way between two seeds (factors A and B averaged), CoTo minus vanilla.",
        table="interpolation",
        quantity=lambda f: _space(quantities.midpoints(f["interpolate"]), "fusion"),
        reported={"lora": (reported.HALF_WAY, *reported.vision("merging 1:1 acc(%)"))},
        needs="two seeds",
        caution=_SHARED_PATH,
    ),
    "lmc-barrier": Claim(
        statement="CoTo promotes linear mode connectivity: the path between two seeds sags less.",
        test="Largest drop of the path below the line between its ends (factors averaged), "
        "CoTo minus vanilla; smaller is better.",
        table="interpolation",
        quantity=lambda f: _space(quantities.barriers(f["interpolate"]), "fusion"),
        direction=-1,
        needs="two seeds",
        caution=_SHARED_PATH,
    ),
    "lmc-midpoint-ensemble": Claim(
        statement="CoTo promotes linear mode connectivity: two seeds can be averaged.",
        test="As lmc-midpoint, with ΔW averaged instead of the factors.",
        table="interpolation",
        quantity=lambda f: _space(quantities.midpoints(f["interpolate"]), "ensemble"),
        needs="two seeds",
        role="sensitivity",
        caution=_SHARED_PATH,
    ),
    "merging-fusion": Claim(
        statement="CoTo enhances multi-task merging accuracy.",
        test="Score of the merge of all tasks (factors A and B averaged), CoTo minus vanilla.",
        table="multitask_merging",
        quantity=lambda f: _space(quantities.merged_scores(f["merge"]), "fusion"),
        reported={"lora": reported.multi_task("Linear Fusion", "Fusion")},
        needs="a suite of two or more tasks",
        caution=_SHARED_MERGE,
    ),
    "merging-ensemble": Claim(
        statement="CoTo enhances multi-task merging accuracy.",
        test="Score of the merge of all tasks (ΔW averaged), CoTo minus vanilla.",
        table="multitask_merging",
        quantity=lambda f: _space(quantities.merged_scores(f["merge"]), "ensemble"),
        reported={"lora": reported.multi_task("Ensemble", "Ensemble")},
        needs="a suite of two or more tasks",
        caution=_SHARED_MERGE,
    ),
    "pruning": Claim(
        statement="CoTo improves pruning robustness.",
        test="Mean score over the structured prunings (both parities of every other layer count "
        "as one), CoTo minus vanilla.",
        table="pruning",
        quantity=lambda f: quantities.pruned_mean(f["prune"]),
        reported={"lora": (*reported.vision("pruning everyother acc(%)"), reported.EVERY_OTHER)},
        needs="pruned scores of both arms",
    ),
    "pruning-everyother": Claim(
        statement="CoTo improves pruning robustness.",
        test="Score with every other layer's adapters removed, mean of both parities, "
        "CoTo minus vanilla.",
        table="pruning",
        quantity=lambda f: quantities.every_other(f["prune"]),
        reported={"lora": (*reported.vision("pruning everyother acc(%)"), reported.EVERY_OTHER)},
        needs="pruned scores of both arms",
        role="sensitivity",
    ),
    "training-time": Claim(
        statement="CoTo reduces training overhead.",
        test="Share of the vanilla arm's time per step that CoTo saves, over repeated, "
        "interleaved measurements.",
        table="training_time",
        quantity=lambda f: quantities.time_saved(f["overhead"]),
        reported={
            adapter: (
                Reported(
                    "percent of wall-clock time saved, LLaMA-2-7B math, one A6000",
                    "training_time_math_1xA6000",
                    "speedup",
                    "percent",
                    f"{reported.PAPER_NAMES[adapter]}-CoTo",
                ),
            )
            for adapter in ("lora", "dora", "hira")
        },
        fixed_margin=2.0,
        unit="% of time",
        needs="timed steps of both arms",
        replicates="repeated measurements",
        caution="The repeats were made in one process on one machine.",
    ),
}

# Statement, why there is no test, what the paper reports.
UNTESTED: dict[str, tuple[str, str, tuple[Reported, ...]]] = {
    "layer-contributions": (
        "Adapters contribute more evenly across layers (cooperative game, Shapley values).",
        "no stage estimates Shapley values yet",
        (
            Reported(
                "share of the highest 4 of 12 layers, plain LoRA, %",
                "shapley",
                "share of highest 4 of 12 layers",
                "percent",
                "LoRA",
            ),
            Reported(
                "deviation from balance, CoTo, points",
                "shapley",
                "deviation from balance",
                "percentage points (+/-)",
                "LoRA-CoTo",
            ),
        ),
    ),
    "dropout-stability": (
        "CoTo promotes layer-wise dropout stability (theory, and accuracy under random drops).",
        "no stage drops random subsets of layers yet; structured pruning is the nearest test",
        (),
    ),
    "unstructured-pruning": (
        "Robustness extends to unstructured pruning at growing sparsity.",
        "only structured pruning is run",
        (
            Reported(
                "gap at 50 % sparsity, points",
                "pruning_unstructured_50pct",
                "gap",
                "percentage points",
                "LoRA-CoTo minus LoRA",
            ),
        ),
    ),
    "lego-merging": (
        "The gain in merging also holds for LoRA-LEGO.",
        "no LoRA-LEGO operator yet",
        reported.multi_task("LoRA-LEGO", "LoRA-LEGO"),
    ),
    "language-models": (
        "The gains hold for commonsense reasoning and math with language models of 7 to 8 billion "
        "parameters.",
        "no language-model suite yet",
        tuple(r for r in reported.single_task("lora") if "LLaMA" in r.label),
    ),
    "vision": (
        "The gains hold for few-shot image classification with CLIP.",
        "no image suite yet",
        tuple(r for r in reported.single_task("lora") if "vision" in r.label),
    ),
    "image-generation": (
        "The gains hold for subject- and style-driven image generation.",
        "no image generation yet",
        (
            Reported(
                "FID, lower is better",
                "custom_image_generation",
                "Average",
                "FID(lower better)",
                "LoRA-CoTo",
                "LoRA",
            ),
        ),
    ),
    "strategies": (
        "CoTo beats dropout, progressive dropout and stochastic depth.",
        "the strategies can be configured and then stand in the tables, but no claim tests them",
        tuple(
            Reported(
                f"{task}, merging 1:1, stochastic depth",
                "vision_strategies",
                task,
                "merging 1:1 acc(%)",
                "CoTo",
                "Stochastic Depth for LoRA",
            )
            for task in ("DTD", "UCF101")
        ),
    ),
}
