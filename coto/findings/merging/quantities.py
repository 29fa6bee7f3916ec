"""Quantities of merging, the paper's numbers, and the claims.

Every quantity has rows with ``suite, task, adapter, strategy, seed, value``, plus what it is split
by. Where seeds are mixed, ``seed`` is a tuple of their numbers.
"""

from functools import partial
from typing import Any

import pandas as pd

from coto.operators.operator import OPERATORS
from coto.report.claim import CLAIMS, POOLED, Claim, by_operator
from coto.report.comparison import AVERAGE
from coto.report.paper import Reported, glue, vision
from coto.report.quantities import ARM, RUN, headline, labelled, over_repeats
from coto.report.sensitivity import WORTH, Sensitivity


def path_scores(interpolate: pd.DataFrame, count: int = 2) -> pd.DataFrame:
    """Headline scores along the path between two seeds, or mixtures of another count of seeds."""
    rows = labelled(headline(over_repeats(interpolate)))
    return rows[rows["seed"].map(len).eq(count).astype(bool)]


def three_way(interpolate: pd.DataFrame) -> pd.DataFrame:
    """Headline scores of three seeds mixed equally."""
    return path_scores(interpolate, 3)


def midpoints(interpolate: pd.DataFrame) -> pd.DataFrame:
    """Scores half-way between two seeds; no rows where 0.5 is not among the weights."""
    rows = path_scores(interpolate)
    return rows[(rows["weight"] - 0.5).abs() < 1e-9]


def thirds(interpolate: pd.DataFrame) -> pd.DataFrame:
    """Scores of two seeds mixed 1:2, mean of both directions; no rows where no weight is a third.

    A weight within 0.005 of 1/3 or 2/3 counts, so that 0.33 and 0.333 do.
    """
    rows = path_scores(interpolate)
    near = [(rows["weight"] - third).abs() < 5e-3 for third in (1 / 3, 2 / 3)]
    rows = rows[near[0] | near[1]]
    return rows.groupby([*RUN, "operator"])["value"].mean().reset_index()


def dips(interpolate: pd.DataFrame) -> pd.DataFrame:
    """How far the middle of a path lies below the mean of its ends; below 0 where it is above.

    Unlike :func:`barriers`, no maximum over noisy points: it is as often too small as too large.
    """
    rows = path_scores(interpolate)
    path = [*RUN, "operator", "metric"]
    place = rows["weight"].round(9).map({0.0: "start", 0.5: "middle", 1.0: "end"})
    wide = rows.assign(place=place).pivot_table("value", path, "place", "mean")
    wide = wide.reindex(columns=["start", "middle", "end"]).dropna()
    dip = (wide["start"] + wide["end"]) / 2 - wide["middle"]
    return dip.rename("value").reset_index()


BARRIER = Sensitivity(
    "vanilla's drop half-way between two seeds, factors averaged, below the mean of both",
    lambda frames: by_operator(dips(frames["interpolate"]), "fusion"),
    lambda settings: settings.barrier * settings.margin,
    "no record has vanilla's path by fusion with both ends and the middle: it needs the weights "
    "0, 0.5 and 1 in interpolate.weights",
)
"""That there is a barrier: for claims on connectivity."""


def barriers(interpolate: pd.DataFrame) -> pd.DataFrame:
    """How far a path sags below the straight line between the scores of its ends.

    ``max over λ of (1 - λ) s(0) + λ s(1) - s(λ)``, 0 at least, as both ends are on the path. Paths
    without both ends are left out. (Frankle et al., Linear Mode Connectivity, 2020; that the paper
    uses it is inferred.)
    """
    rows = path_scores(interpolate)
    path = [*ARM, "seeds", "operator", "metric"]
    for name, weight in (("start", 0.0), ("end", 1.0)):
        end = rows.loc[(rows["weight"] - weight).abs() < 1e-9, [*path, "value"]]
        rows = rows.merge(end.rename(columns={"value": name}), on=path)
    line = (1 - rows["weight"]) * rows["start"] + rows["weight"] * rows["end"]
    rows = rows.assign(value=line - rows["value"]).drop(columns=["start", "end"])
    return rows.sort_values("value", kind="stable").drop_duplicates(path, keep="last").sort_index()


def merged_scores(merge: pd.DataFrame) -> pd.DataFrame:
    """Headline scores of the merge of the most tasks.

    Merges of tasks with a seed of their own each stand apart, by the name of their operator.
    """
    apart = merge["operator"].map(_APART.format)
    merge = merge.assign(operator=merge["operator"].where(merge["seeds"] == "same", apart))
    rows = headline(over_repeats(merge))
    most = rows.groupby(["suite", "adapter", "strategy"])["merged_tasks"].transform("max")
    return rows[rows["merged_tasks"] == most]


def _nine(method: str) -> Reported:
    """A row pair of the table of nine tasks merged into a language model."""
    return Reported(
        *("nine tasks, LLaMA-2-7B", "multitask_merge_llama2_7b_9tasks", AVERAGE, "accuracy(%)"),
        *(f"{method} +CoTo", method, "language"),
    )


# The paper's averages over merged tasks by operator, in the order of its tables.
PAPER: dict[str, tuple[Reported, ...]] = {
    operator: (glue(text, "5e-4"), glue(text, "1e-3"), _nine(language))
    for operator, text, language in (
        ("fusion", "Linear Fusion", "Fusion"),
        ("ensemble", "Ensemble", "Ensemble"),
        ("lora-lego", "LoRA-LEGO", "LoRA-LEGO"),
    )
}
_HALF_WAY = Reported(
    *("commonsense at λ = 0.5", "lmc_commonsense_lambda0.5", "Average", "accuracy(%)"),
    *("LoRA-CoTo", "LoRA", "language"),
)
_CONNECTED = "CoTo promotes linear mode connectivity"
_FURTHER = [name for name in OPERATORS if name not in ("fusion", "ensemble")]
_APART = "{}, different seeds"
_SECOND: dict[str, Any] = {"role": "secondary", "apart": False}
_SEEDS: dict[str, Any] = {
    "statement": f"{_CONNECTED}: two seeds can be averaged.",
    "table": "interpolation",
    "rows": "operator == '{}' and quantity == 'score' and weight == 0.5",
    "quantity": midpoints,
    "records": ("interpolate",),
    "sensitivity": BARRIER,
}
_TASKS: dict[str, Any] = {
    "statement": "CoTo enhances multi-task merging accuracy.",
    "table": "multitask_merging",
    "rows": "kind == 'measured' and operator == '{}'",
    "quantity": merged_scores,
    "records": ("merge",),
    "sensitivity": WORTH,
}


def _claim(about: dict, name: str, test: str, operator: str = "fusion", **more: Any) -> Claim:
    """A claim about seeds or tasks that an operator merged."""
    settings = {"family": "merging", **about, **more}
    settings["rows"] = settings["rows"].format(operator)
    quantity, (record,) = settings.pop("quantity"), settings["records"]
    settings["quantity"] = lambda f: by_operator(quantity(f[record]), operator)
    return Claim(name, test=test, **settings)


_seeds, _tasks = partial(_claim, _SEEDS), partial(_claim, _TASKS)
for _one in (
    _seeds(
        "lmc-midpoint",
        "Score half-way between two seeds (factors A and B averaged), CoTo minus vanilla.",
        reported={"lora": (_HALF_WAY, *vision("merging 1:1 acc(%)"))},
        needs="two seeds",
        by_task=True,
    ),
    _seeds(
        "lmc-barrier",
        "Largest drop of the path below the line between its ends (factors averaged), "
        "CoTo minus vanilla; smaller is better.",
        rows="operator == '{}' and quantity == 'barrier'",
        quantity=barriers,
        statement=f"{_CONNECTED}: the path between two seeds sags less.",
        direction=-1,
        needs="two seeds",
        role="secondary",
        caution="A maximum over points that are all uncertain is too large in both arms.",
    ),
    _seeds(
        "lmc-midpoint-ensemble",
        "As lmc-midpoint, with ΔW averaged instead of the factors.",
        "ensemble",
        needs="two seeds, and ensemble among the operators of interpolation",
        role="secondary",
    ),
    _seeds(
        "lmc-three-way",
        "Score of three seeds mixed 1:1:1 (factors averaged), CoTo minus vanilla.",
        rows="operator == '{}' and quantity == 'score of three seeds 1:1:1'",
        quantity=three_way,
        statement=f"{_CONNECTED}: three seeds can be averaged.",
        optional="no suite of this run mixes three seeds",
        **_SECOND,
    ),
    *(
        # An operator that has no path between two seeds.
        _seeds(
            f"seeds-{operator}",
            f"As lmc-midpoint, merged by {operator}.",
            operator,
            table="seed_merging",
            rows="operator == '{}' and merged == '1:1'",
            optional=f"no suite of this run merges seeds by {operator}",
            **_SECOND,
        )
        for operator in _FURTHER
    ),
    *(
        _tasks(
            f"merging-{operator}",
            f"Score of the merge of all tasks ({what} averaged), CoTo minus vanilla.",
            operator,
            reported={"lora": PAPER[operator]},
            needs="a suite of two or more tasks",
            by_task=True,
            role=role,
        )
        for operator, what, role in (
            # The operator that the paper shows first, and the one that its theory is about.
            ("fusion", "factors A and B", "main"),
            ("ensemble", "ΔW", "secondary"),
        )
    ),
    *(
        _tasks(
            f"merging-{operator}-seeds",
            f"As merging-{operator}, each task with a seed of its own: no two of the merged "
            "adapters begin with the same A.",
            _APART.format(operator),
            by_task=True,
            optional="no suite of this run merges tasks of different seeds (merge.different_seeds)",
            caution="No trained run is part of two merges: the tasks' seeds rotate.",
            **_SECOND,
        )
        for operator in ("fusion", "ensemble")
    ),
    _tasks(
        "merging-lego",
        "Score of the merge of all tasks by LoRA-LEGO, mean over its draws, CoTo minus vanilla.",
        "lora-lego",
        statement="CoTo enhances multi-task merging accuracy, also by LoRA-LEGO.",
        reported={POOLED: PAPER["lora-lego"]},
        optional="no suite of this run merges tasks by LoRA-LEGO",
        **_SECOND,
    ),
    *(
        # Operators that the abstract's claim does not rest on.
        _tasks(
            f"merging-{operator}",
            f"As merging-fusion, merged by {operator}.",
            operator,
            optional=f"no suite of this run merges tasks by {operator}",
            **_SECOND,
        )
        for operator in _FURTHER
        if operator != "lora-lego"
    ),
):
    CLAIMS.add(_one)
