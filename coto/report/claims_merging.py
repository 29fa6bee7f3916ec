"""Claims about merging: linear mode connectivity of two seeds, and all tasks in one adapter."""

from coto.operators.registry import OPERATORS
from coto.report import quantities, quantities_analysis, reported
from coto.report.claim import Claim, by_operator

_SHARED_PATH = (
    "Pairs of seeds that share a seed are not independent; p treats them as if they were."
)
_SHARED_MERGE = (
    "The tasks of one merged model are not independent. The interval, which resamples seeds as a "
    "whole, allows for it; p treats them as if they were."
)
_AVERAGED = "CoTo promotes linear mode connectivity: two seeds can be averaged."
_TASKS = "CoTo enhances multi-task merging accuracy."
_FURTHER = [name for name in OPERATORS if name not in ("fusion", "ensemble")]


def _seeds(operator: str) -> Claim:
    """Two seeds merged 1:1 by an operator that has no path between them."""
    return Claim(
        statement=_AVERAGED,
        test=f"As lmc-midpoint, merged by {operator}.",
        table="seed_merging",
        rows=f"operator == '{operator}' and merged == '1:1'",
        family="merging",
        quantity=lambda f: by_operator(quantities_analysis.seed_merges(f["interpolate"]), operator),
        role="sensitivity",
        caution=_SHARED_PATH,
        apart=False,
        optional=f"no suite of this run merges seeds by {operator}",
    )


def _tasks(operator: str) -> Claim:
    """All tasks merged by an operator that the abstract's claim does not rest on."""
    return Claim(
        statement=_TASKS,
        test=f"As merging-fusion, merged by {operator}.",
        table="multitask_merging",
        rows=f"kind == 'measured' and operator == '{operator}'",
        family="merging",
        quantity=lambda f: by_operator(quantities.merged_scores(f["merge"]), operator),
        role="sensitivity",
        caution=_SHARED_MERGE,
        apart=False,
        optional=f"no suite of this run merges tasks by {operator}",
    )


MERGING: dict[str, Claim] = {
    "lmc-midpoint": Claim(
        statement=_AVERAGED,
        test="Score half-way between two seeds (factors A and B averaged), CoTo minus vanilla.",
        table="interpolation",
        rows="operator == 'fusion' and quantity == 'score' and weight == 0.5",
        family="merging",
        quantity=lambda f: by_operator(quantities.midpoints(f["interpolate"]), "fusion"),
        reported={"lora": (reported.HALF_WAY, *reported.vision("merging 1:1 acc(%)"))},
        needs="two seeds",
        caution=_SHARED_PATH,
    ),
    "lmc-barrier": Claim(
        statement="CoTo promotes linear mode connectivity: the path between two seeds sags less.",
        test="Largest drop of the path below the line between its ends (factors averaged), "
        "CoTo minus vanilla; smaller is better.",
        table="interpolation",
        rows="operator == 'fusion' and quantity == 'barrier'",
        family="merging",
        quantity=lambda f: by_operator(quantities.barriers(f["interpolate"]), "fusion"),
        direction=-1,
        needs="two seeds",
        caution=_SHARED_PATH,
    ),
    "lmc-midpoint-ensemble": Claim(
        statement=_AVERAGED,
        test="As lmc-midpoint, with ΔW averaged instead of the factors.",
        table="interpolation",
        rows="operator == 'ensemble' and quantity == 'score' and weight == 0.5",
        family="merging",
        quantity=lambda f: by_operator(quantities.midpoints(f["interpolate"]), "ensemble"),
        needs="two seeds, and ensemble among the operators of interpolation",
        role="sensitivity",
        caution=_SHARED_PATH,
    ),
    "lmc-three-way": Claim(
        statement="CoTo promotes linear mode connectivity: three seeds can be averaged.",
        test="Score of three seeds mixed 1:1:1 (factors averaged), CoTo minus vanilla.",
        table="interpolation",
        rows="operator == 'fusion' and quantity == 'score of three seeds 1:1:1'",
        family="merging",
        quantity=lambda f: by_operator(quantities.three_way(f["interpolate"]), "fusion"),
        role="sensitivity",
        caution="Mixtures that share seeds are not independent; p treats them as if they were.",
        apart=False,
        optional="no suite of this run mixes three seeds",
    ),
    **{f"seeds-{name}": _seeds(name) for name in _FURTHER},
    "merging-fusion": Claim(
        statement=_TASKS,
        test="Score of the merge of all tasks (factors A and B averaged), CoTo minus vanilla.",
        table="multitask_merging",
        rows="kind == 'measured' and operator == 'fusion'",
        family="merging",
        quantity=lambda f: by_operator(quantities.merged_scores(f["merge"]), "fusion"),
        reported={"lora": reported.multi_task("Linear Fusion", "Fusion")},
        needs="a suite of two or more tasks",
        caution=_SHARED_MERGE,
    ),
    "merging-ensemble": Claim(
        statement=_TASKS,
        test="Score of the merge of all tasks (ΔW averaged), CoTo minus vanilla.",
        table="multitask_merging",
        rows="kind == 'measured' and operator == 'ensemble'",
        family="merging",
        quantity=lambda f: by_operator(quantities.merged_scores(f["merge"]), "ensemble"),
        reported={"lora": reported.multi_task("Ensemble", "Ensemble")},
        needs="a suite of two or more tasks",
        caution=_SHARED_MERGE,
    ),
    "merging-lego": Claim(
        statement="CoTo enhances multi-task merging accuracy, also by LoRA-LEGO.",
        test="Score of the merge of all tasks by LoRA-LEGO, mean over its draws, CoTo minus "
        "vanilla.",
        table="multitask_merging",
        rows="kind == 'measured' and operator == 'lora-lego'",
        family="merging",
        quantity=lambda f: by_operator(quantities.merged_scores(f["merge"]), "lora-lego"),
        reported={"lora": reported.multi_task("LoRA-LEGO", "LoRA-LEGO")},
        caution=_SHARED_MERGE,
        optional="no suite of this run merges tasks by LoRA-LEGO",
    ),
    **{f"merging-{name}": _tasks(name) for name in _FURTHER if name != "lora-lego"},
}
