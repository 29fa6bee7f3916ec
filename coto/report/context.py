"""The paper's numbers beside the measured ones in tables: context from other models and data."""

import pandas as pd

from coto.report.comparison import AVERAGE
from coto.report.paper import PaperValue, paper_value
from coto.report.quantities import BASELINE

_GLUE = "glue_merge_deberta_v3_lr5e-4"
_GLUE_METRIC = "accuracy(%) GLUE dev"
_GLUE_LABEL = "paper, DeBERTa-v3-base, six GLUE tasks"
_CLIP_LABEL = "paper: CLIP ViT-B/16, 11 image sets, LoRA → +CoTo"
# Adapter kinds with published training times.
_TIMED = {"lora": "LoRA", "dora": "DoRA", "hira": "HiRA"}


def with_glue(
    tidy: pd.DataFrame, methods: dict[str, str], split_by: str | None = None
) -> pd.DataFrame:
    """Append the paper's GLUE averages as lines of kind ``paper``, one pair per method."""
    lines = []
    present = set(tidy[split_by]) if split_by and len(tidy) else {""}
    for split, method in methods.items():
        if split not in present or "lora" not in set(tidy["adapter"]):
            continue
        base = paper_value(_GLUE, AVERAGE, method, _GLUE_METRIC)
        coto = paper_value(_GLUE, AVERAGE, f"{method} +CoTo", _GLUE_METRIC)
        place = {
            "suite": tidy.loc[tidy["adapter"] == "lora", "suite"].iloc[0],
            "adapter": "lora",
            "task": _GLUE_LABEL,
            "metric": "accuracy",
            "kind": "paper",
            "flagged": 0,
        } | ({split_by: split} if split_by else {})
        for strategy, value in ((BASELINE, base), ("coto", coto)):
            line = {**place, "strategy": strategy, "mean": value.value / 100}
            line["source"] = value.provenance
            if strategy != BASELINE:
                line["difference"] = (value.value - base.value) / 100
            lines.append(line)
    return pd.concat([tidy, pd.DataFrame(lines)], ignore_index=True) if lines else tidy


def with_clip(display: pd.DataFrame, tidy: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame, str]:
    """Add the paper's CLIP averages for LoRA to the pruning table; also return their quality.

    Its everyother stands beside both parities, as which one it keeps is not known.
    """
    papers = {keep: _clip(keep) for keep in tidy["keep"].unique()}
    display = display.copy()
    display[_CLIP_LABEL] = [
        " → ".join(f"{value.value:.1f}" for value in papers[keep]) if adapter == "lora" else ""
        for adapter, keep in zip(display["adapter"], display["kept"], strict=True)
    ]
    shown = (tidy["adapter"] == "lora") & (tidy["task"] == AVERAGE)
    tidy = tidy.assign(
        **{
            f"paper_clip11_{arm}": tidy["keep"]
            .map({keep: values[i].value / 100 for keep, values in papers.items()})
            .where(shown)
            for i, arm in enumerate((BASELINE, "coto"))
        }
    )
    quality = sorted({value.quality for values in papers.values() for value in values})
    return display, tidy, ", ".join(quality)


def _clip(keep: str) -> tuple[PaperValue, PaperValue]:
    task = "Average:" + ("everyother" if keep in ("odd", "even") else keep)
    lora, coto = (
        paper_value("clip11_pruning", task, method, "accuracy(%)")
        for method in ("LoRA", "LoRA-CoTo")
    )
    return lora, coto


def time_saved(adapter: str) -> PaperValue | None:
    """Percent of wall-clock time that CoTo saves in the paper; None for adapters without one."""
    if adapter not in _TIMED:
        return None
    method = f"{_TIMED[adapter]}-CoTo"
    return paper_value("training_time_math_1xA6000", "speedup", method, "percent")
