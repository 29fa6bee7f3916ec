"""The paper's numbers beside what is measured of weights and sub-networks, all with LoRA."""

from collections.abc import Iterator
from typing import Any

import pandas as pd

from coto.report.display import FRACTION
from coto.report.paper import PaperValue, paper_value
from coto.report.quantities import BASELINE, ORDER
from coto.report.settings import Settings

_ARMS = ((BASELINE, "LoRA"), ("coto", "LoRA-CoTo"))
_FIGURE_R8 = "paper, Figure r8, {} encoder"
# Columns of Figure r8 by the measure of :func:`coto.report.quantities_analysis.alignment`.
_ALIGNMENT = {
    "gap_before": "before_diff ||dWf-dWm||2",
    "gap_after": "after_diff",
    "p_norm": "avg_magnitude_P",
}
# Rows of Figure r4 by relation; what is one number there is CoTo's, beside the baseline.
_GEOMETRY = dict(
    zip(
        ORDER["relation"],
        ("SameMethod-DiffSeed", "SameSeed-DiffMethod", "LoRA vs Pretrain"),
        strict=False,
    )
)


def with_shapley(tidy: pd.DataFrame, share: str, deviation: str) -> pd.DataFrame:
    """Append the paper's share of the highest third and its deviations from balance, in accuracy.

    Args:
        tidy: lines with ``quantity``.
        share: name of the quantity that is the share.
        deviation: name of the deviation.
    """
    reported = (
        (BASELINE, share, ("share of highest 4 of 12 layers", "LoRA", "percent")),
        ("coto", deviation, ("deviation from balance", "LoRA-CoTo", "percentage points (+/-)")),
        (
            *("coto-early", deviation),
            ("deviation from balance", "early-stopped CoTo", "percentage points (+/-)"),
        ),
    )
    label = "paper, CLIP ViT-B/16, 12 layers"
    return _with(
        tidy,
        [
            _line(suite, label, strategy, value, value.value / 100) | {"quantity": quantity}
            for suite in _lora_suites(tidy)
            for strategy, quantity, place in reported
            for value in (paper_value("shapley", *place),)
        ],
    )


def with_unstructured(tidy: pd.DataFrame, quantity: str) -> pd.DataFrame:
    """Append how far CoTo is ahead in the paper when half of the entries are gone.

    Args:
        tidy: lines with ``quantity`` and ``method``.
        quantity: name of the score at that sparsity.
    """
    place = ("pruning_unstructured_50pct", "gap", "LoRA-CoTo minus LoRA", "percentage points")
    gap, label = paper_value(*place), "paper, 50 % sparsity"
    lines = [
        _line(suite, label, "coto", gap, float("nan"))
        | {"quantity": quantity, "method": "not stated", "difference": gap.value / 100}
        for suite in _lora_suites(tidy)
    ]
    return _with(tidy, lines)


def with_geometry(tidy: pd.DataFrame, measures: dict[str, str]) -> pd.DataFrame:
    """Append the bars of Figure r4.

    Args:
        tidy: lines with ``quantity``, ``unit`` and ``relation``.
        measures: unit by measure, ``cosine`` and ``euclidean``.
    """
    lines = []
    for suite in _lora_suites(tidy):
        for relation, task in _GEOMETRY.items():
            one = relation == "same seed, other strategy"
            for strategy, method in (("coto", "LoRA vs LoRA-CoTo"),) if one else _ARMS:
                for measure, unit in measures.items():
                    value = paper_value("weight_geometry", task, method, measure)
                    where = {"quantity": measure, "unit": unit, "relation": relation}
                    line = _line(suite, "paper, Figure r4", strategy, value, value.value)
                    lines.append(line | where)
    return _with(tidy, lines)


def with_alignment(tidy: pd.DataFrame, settings: Settings) -> pd.DataFrame:
    """Append Figure r8: its text encoder beside text, its image encoder beside images.

    Args:
        tidy: lines with ``stage``, ``stack``, ``third``, ``measure``, ``quantity`` and ``unit``.
        settings: know what a suite's tasks are.
    """
    lines = [
        line
        for suite in _lora_suites(tidy)
        for line in _figure_r8(tidy[tidy["suite"] == suite], suite, settings.kind(suite))
    ]
    return _with(tidy, lines)


def _figure_r8(tidy: pd.DataFrame, suite: str, kind: str) -> Iterator[dict[str, Any]]:
    shown = tidy.drop_duplicates("measure").set_index("measure")[["quantity", "unit"]]
    stacks = sorted(tidy["stack"].unique())
    for stack in stacks:
        image = kind == "image" if len(stacks) == 1 else "text" not in stack
        encoder = "image" if image else "text"
        for third in ORDER["third"]:
            for strategy, method in _ARMS:
                values = {
                    measure: paper_value("alignment_P", f"{encoder}:{third}", f"{method}*", metric)
                    for measure, metric in _ALIGNMENT.items()
                }
                numbers = {measure: value.value for measure, value in values.items()}
                numbers["reduction"] = 1 - numbers["gap_after"] / numbers["gap_before"]
                for measure, number in numbers.items():
                    source = values.get(measure, values["gap_after"])
                    where = {"stage": "interpolate", "stack": stack, "third": third}
                    where |= {"measure": measure, "quantity": shown.at[measure, "quantity"]}
                    line = _line(suite, _FIGURE_R8.format(encoder), strategy, source, number)
                    yield line | where | {"unit": shown.at[measure, "unit"]}


def _lora_suites(tidy: pd.DataFrame) -> list[str]:
    return list(dict.fromkeys(tidy.loc[tidy["adapter"] == "lora", "suite"]))


def _line(suite: str, label: str, strategy: str, value: PaperValue, mean: float) -> dict[str, Any]:
    place = {"suite": suite, "adapter": "lora", "task": label, "metric": "", "strategy": strategy}
    return {
        **place,
        "kind": "paper",
        "mean": mean,
        "unit": FRACTION,
        "flagged": 0,
        "source": value.provenance,
    }


def _with(tidy: pd.DataFrame, lines: list[dict[str, Any]]) -> pd.DataFrame:
    return pd.concat([tidy, pd.DataFrame(lines)], ignore_index=True) if lines else tidy
