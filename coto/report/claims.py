"""What the paper claims and how each claim is tested at this scale.

A claim is an entry of ``CLAIMS``: what is said, which quantity tests it, in which direction, and
where the paper reports it. :mod:`coto.report.untested` has what the paper claims and no stage here
measures. The statements are the abstract's, in short.
"""

from coto.report import quantities, reported
from coto.report.claim import Claim, in_space, single_scores
from coto.report.claims_wider import WIDER
from coto.report.reported import Reported

_SHARED_PATH = (
    "Pairs of seeds that share a seed are not independent; p treats them as if they were."
)
_SHARED_MERGE = (
    "The tasks of one merged model are not independent. The interval, which resamples seeds as a "
    "whole, allows for it; p treats them as if they were."
)


CLAIMS: dict[str, Claim] = {
    "single-task": Claim(
        statement="CoTo consistently boosts single-task performance, with LoRA and its variants.",
        test="Headline score on the test part, CoTo minus vanilla.",
        table="single_task",
        quantity=single_scores,
        reported={adapter: reported.single_task(adapter) for adapter in reported.PAPER_NAMES},
        # The paper's own gains on vision are 0.4 to 0.5 points.
        margin=0.5,
        needs="test scores of both arms",
    ),
    "lmc-midpoint": Claim(
        statement="CoTo promotes linear mode connectivity: two seeds can be averaged.",
        test="Score half-way between two seeds (factors A and B averaged), CoTo minus vanilla.",
        table="interpolation",
        quantity=lambda f: in_space(quantities.midpoints(f["interpolate"]), "fusion"),
        reported={"lora": (reported.HALF_WAY, *reported.vision("merging 1:1 acc(%)"))},
        needs="two seeds",
        caution=_SHARED_PATH,
    ),
    "lmc-barrier": Claim(
        statement="CoTo promotes linear mode connectivity: the path between two seeds sags less.",
        test="Largest drop of the path below the line between its ends (factors averaged), "
        "CoTo minus vanilla; smaller is better.",
        table="interpolation",
        quantity=lambda f: in_space(quantities.barriers(f["interpolate"]), "fusion"),
        direction=-1,
        needs="two seeds",
        caution=_SHARED_PATH,
    ),
    "lmc-midpoint-ensemble": Claim(
        statement="CoTo promotes linear mode connectivity: two seeds can be averaged.",
        test="As lmc-midpoint, with ΔW averaged instead of the factors.",
        table="interpolation",
        quantity=lambda f: in_space(quantities.midpoints(f["interpolate"]), "ensemble"),
        needs="two seeds, and ensemble among the spaces of interpolation",
        role="sensitivity",
        caution=_SHARED_PATH,
    ),
    "merging-fusion": Claim(
        statement="CoTo enhances multi-task merging accuracy.",
        test="Score of the merge of all tasks (factors A and B averaged), CoTo minus vanilla.",
        table="multitask_merging",
        quantity=lambda f: in_space(quantities.merged_scores(f["merge"]), "fusion"),
        reported={"lora": reported.multi_task("Linear Fusion", "Fusion")},
        needs="a suite of two or more tasks",
        caution=_SHARED_MERGE,
    ),
    "merging-ensemble": Claim(
        statement="CoTo enhances multi-task merging accuracy.",
        test="Score of the merge of all tasks (ΔW averaged), CoTo minus vanilla.",
        table="multitask_merging",
        quantity=lambda f: in_space(quantities.merged_scores(f["merge"]), "ensemble"),
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
CLAIMS |= WIDER
