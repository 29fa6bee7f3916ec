"""What the paper claims and how each claim is tested at this scale.

A claim is an entry of ``CLAIMS``: what is said, which quantity tests it, in which direction, and
where the paper reports it. Single tasks, variants of LoRA and training time are here; the modules
``claims_*`` have the rest. :mod:`coto.report.untested` has what the paper claims and no stage here
measures. The statements are the abstract's, in short.
"""

from dataclasses import replace

import pandas as pd

from coto.report import quantities, reported
from coto.report.claim import POOLED, Claim, Frames, single_scores
from coto.report.claims_layers import LAYERS
from coto.report.claims_merging import MERGING
from coto.report.claims_pruning import PRUNING
from coto.report.claims_wider import WIDER
from coto.report.items import COLUMNS, over_items
from coto.report.reported import Reported

PLAIN = "lora"
_MEASURED = "kind == 'measured'"


def _variants(frames: Frames) -> pd.DataFrame:
    rows = single_scores(frames)
    return rows[rows["adapter"] != PLAIN]


def _items(frames: Frames) -> pd.DataFrame:
    return frames.get("items", pd.DataFrame(columns=COLUMNS))


def _time_of(adapter: str) -> Reported:
    return Reported(
        "percent of wall-clock time saved, LLaMA-2-7B math, one A6000",
        "training_time_math_1xA6000",
        "speedup",
        "percent",
        f"{reported.PAPER_NAMES[adapter]}-CoTo",
    )


CLAIMS: dict[str, Claim] = {
    "single-task": Claim(
        statement="CoTo consistently boosts single-task performance, with LoRA and its variants.",
        test="Headline score on the test part, CoTo minus vanilla.",
        table="single_task",
        rows=_MEASURED,
        family="generalisation",
        quantity=single_scores,
        reported={adapter: reported.single_task(adapter) for adapter in reported.PAPER_NAMES},
        # The paper's own gains on vision are 0.4 to 0.5 points.
        margin=0.5,
        needs="test scores of both arms",
    ),
    "single-task-items": Claim(
        statement="CoTo consistently boosts single-task performance, with LoRA and its variants.",
        test="Share of test items answered right, CoTo minus vanilla, paired by item: would these "
        "trained runs differ on other items of these tasks?",
        table="single_task",
        rows=_MEASURED,
        family="generalisation",
        quantity=_items,
        estimate=over_items,
        pairs="items",
        margin=0.5,
        role="sensitivity",
        caution="The pairs are items, each the mean over seeds and adapter kinds. Another training "
        "run is a question that only the test over seeds asks.",
        apart=False,
        optional="the answers of the runs were not given",
    ),
    "variants": Claim(
        statement="CoTo is compatible with variants of LoRA and improves them.",
        test="Headline score on the test part, CoTo minus vanilla, of all adapter kinds but plain "
        "LoRA together.",
        table="single_task",
        rows=f"{_MEASURED} and adapter != '{PLAIN}'",
        family="variants",
        quantity=_variants,
        reported={
            POOLED: tuple(
                replace(value, label=f"{reported.PAPER_NAMES[adapter]}, {value.label}")
                for adapter in reported.PAPER_NAMES
                if adapter != PLAIN
                for value in reported.single_task(adapter)
            )
        },
        margin=0.5,
        apart=False,
        caution="A part of the runs of the claim single-task.",
        optional="this run has no adapter kind but plain LoRA",
    ),
    "training-time": Claim(
        statement="CoTo reduces training overhead.",
        test="Share of the vanilla arm's time per step that CoTo saves, over repeated, "
        "interleaved measurements.",
        table="training_time",
        rows="strategy in ('vanilla', 'coto')",
        family="efficiency",
        quantity=lambda f: quantities.time_saved(f["overhead"]),
        reported={adapter: (_time_of(adapter),) for adapter in ("lora", "dora", "hira")},
        fixed_margin=2.0,
        unit="% of time",
        needs="timed steps of both arms",
        replicates="repeated measurements",
        caution="The repeats were made in one process on one machine.",
    ),
}
CLAIMS |= MERGING | PRUNING | LAYERS | WIDER
