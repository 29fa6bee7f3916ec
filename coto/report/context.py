"""The paper's numbers beside the measured ones in tables: context from other models and data."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from coto.report.comparison import AVERAGE
from coto.report.paper import PaperValue, paper_value, paper_values
from coto.report.quantities import BASELINE
from coto.report.settings import Settings

_CLIP_LABEL = "paper: CLIP ViT-B/16, 11 image sets, LoRA → +CoTo"
# Adapter kinds with published training times.
_TIMED = {"lora": "LoRA", "dora": "DoRA", "hira": "HiRA"}
_PERCENT = "accuracy(%)"
_ON_GLUE = "accuracy(%) GLUE dev"


@dataclass(frozen=True)
class Block:
    """Rows of one experiment: by adapter kind the names of its baseline and of its CoTo arm.

    ``about`` is a name that one of the suite's evaluation sets must have; empty: any.
    """

    label: str
    experiment: str
    task: str
    metric: str
    methods: Mapping[str, tuple[str, str | None]]
    about: str = ""


def _both(*names: str) -> dict[str, tuple[str, str | None]]:
    return {name.lower(): (name, f"{name}-CoTo") for name in names}


_GLUE = ("paper, DeBERTa-v3-base, six GLUE tasks", "glue_merge_deberta_v3_lr5e-4", AVERAGE)
_NINE = ("paper, LLaMA-2-7B, nine tasks", "multitask_merge_llama2_7b_9tasks", AVERAGE)
_EIGHT = "{}, eight commonsense sets"
_UPSTREAM = "DoRA README and HiRA paper, {}, eight commonsense sets"

# By the kind of a suite's tasks.
SINGLE_TASK: dict[str, tuple[Block, ...]] = {
    "text": (Block(*_GLUE, _ON_GLUE, {"lora": ("Task LoRA", "Task LoRA +CoTo")}),),
    "language": (
        Block(
            _EIGHT.format("paper, LLaMA-3-8B"),
            "commonsense8_llama3_8b_r32",
            AVERAGE,
            _PERCENT,
            _both("LoRA", "DoRA", "HiRA"),
        ),
        Block(
            _EIGHT.format("paper, LLaMA-2-7B"),
            "commonsense8_llama2_7b_r32",
            AVERAGE,
            _PERCENT,
            _both("LoRA"),
        ),
        Block(
            _UPSTREAM.format("LLaMA-3-8B"),
            "upstream_commonsense_llama3_8b",
            AVERAGE,
            _PERCENT,
            {
                "lora": ("LoRA r32 lr3e-4", None),
                "dora": ("DoRA r32 lr1e-4", None),
                "hira": ("HiRA r32", None),
            },
        ),
        Block(
            _UPSTREAM.format("LLaMA-2-7B"),
            "upstream_commonsense_llama2_7b",
            AVERAGE,
            _PERCENT,
            {
                "lora": ("LoRA r32 lr3e-4", None),
                "dora": ("DoRA r32 lr2e-4", None),
                "hira": ("HiRA r32", None),
            },
        ),
        Block(
            "paper, LLaMA-2-7B, GSM8K",
            "math_gsm8k_llama2_7b_r8",
            "GSM8K",
            _PERCENT,
            _both("LoRA", "DoRA", "HiRA", "rsLoRA"),
            about="gsm8k",
        ),
    ),
    "image": (
        Block(
            "paper, CLIP ViT-B/16, 11 image sets",
            "vision_11_datasets_vitb16_r2",
            AVERAGE,
            _PERCENT,
            _both("LoRA", "DoRA", "HiRA"),
        ),
    ),
}


def _merged(method: str, lr: str) -> Block:
    """A pair of rows of Table r1, of one of its two learning rates."""
    label, experiment = f"{_GLUE[0]}, lr {lr}", f"glue_merge_deberta_v3_lr{lr}"
    return Block(label, experiment, AVERAGE, _ON_GLUE, {"lora": (method, f"{method} +CoTo")})


# By the kind of a suite's tasks, then by the operator.
MULTI_TASK: dict[str, dict[str, tuple[Block, ...]]] = {
    "text": {
        operator: (_merged(method, "5e-4"), _merged(method, "1e-3"))
        for operator, method in (
            ("fusion", "Linear Fusion"),
            ("ensemble", "Ensemble"),
            ("lora-lego", "LoRA-LEGO"),
        )
    },
    "language": {
        operator: (Block(*_NINE, _PERCENT, {"lora": (method, f"{method} +CoTo")}),)
        for operator, method in (
            ("fusion", "Fusion"),
            ("ensemble", "Ensemble"),
            ("lora-lego", "LoRA-LEGO"),
        )
    },
}


def with_single_task(tidy: pd.DataFrame, settings: Settings) -> pd.DataFrame:
    """Append the paper's single-task averages of each suite's kind, as lines of kind ``paper``."""
    lines: list[dict[str, Any]] = []
    for suite in dict.fromkeys(tidy["suite"]):
        for block in SINGLE_TASK.get(settings.kind(suite) or "text", ()):
            lines += _lines(tidy[tidy["suite"] == suite], suite, block)
    return _append(tidy, lines)


def with_multi_task(tidy: pd.DataFrame, settings: Settings) -> pd.DataFrame:
    """Append the paper's averages of merged tasks, pairs of lines by operator."""
    lines: list[dict[str, Any]] = []
    for suite in dict.fromkeys(tidy["suite"]):
        for operator, blocks in MULTI_TASK.get(settings.kind(suite) or "text", {}).items():
            here = tidy[(tidy["suite"] == suite) & (tidy["operator"] == operator)]
            for block in blocks:
                lines += [line | {"operator": operator} for line in _lines(here, suite, block)]
    return _append(tidy, lines)


def _lines(tidy: pd.DataFrame, suite: str, block: Block) -> Iterable[dict[str, Any]]:
    """Two lines of numbers per adapter kind that the suite has too; one without a CoTo arm."""
    if not any(block.about in task for task in tidy["task"]):
        return
    for adapter, (method, coto) in block.methods.items():
        if adapter not in set(tidy["adapter"]):
            continue
        base = paper_value(block.experiment, block.task, method, block.metric)
        place = {"suite": suite, "adapter": adapter, "task": block.label, "metric": "accuracy"}
        line = {**place, "kind": "paper", "flagged": 0, "source": base.provenance}
        yield line | {"strategy": BASELINE, **_mean(base)}
        if coto is not None:
            value = paper_value(block.experiment, block.task, coto, block.metric)
            yield line | {
                "strategy": "coto",
                **_mean(value),
                "difference": (value.value - base.value) / 100,
                "source": value.provenance,
            }


def _mean(value: PaperValue) -> dict[str, float]:
    """A fraction, with its standard deviation over an operator's draws where it is known."""
    return {"mean": value.value / 100} | (
        {} if value.std is None else {"repeat_sd": value.std / 100}
    )


def _append(tidy: pd.DataFrame, lines: list[dict[str, Any]]) -> pd.DataFrame:
    return pd.concat([tidy, pd.DataFrame(lines)], ignore_index=True) if lines else tidy


def with_clip(display: pd.DataFrame, tidy: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame, str]:
    """Add the paper's CLIP averages for LoRA to the pruning table; also return their quality.

    Its everyother stands beside both parities, as which one it keeps is not known. Of what it does
    not prune, such as whole encoders, there is no number.
    """
    known = {keep: _clip(keep) for keep in tidy["keep"].unique()}
    papers = {keep: values for keep, values in known.items() if values}
    display = display.copy()
    display[_CLIP_LABEL] = [
        " → ".join(f"{value.value:.1f}" for value in papers.get(keep, ()) if adapter == "lora")
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


def _clip(keep: str) -> list[PaperValue]:
    """LoRA's and CoTo's average; empty where the paper has none."""
    task = "Average:" + ("everyother" if keep in ("odd", "even") else keep)
    places = [(task, method, "accuracy(%)") for method in ("LoRA", "LoRA-CoTo")]
    values = paper_values("clip11_pruning")
    return [values[place] for place in places if place in values]


def time_saved(adapter: str) -> PaperValue | None:
    """Percent of wall-clock time that CoTo saves in the paper; None for adapters without one."""
    if adapter not in _TIMED:
        return None
    method = f"{_TIMED[adapter]}-CoTo"
    return paper_value("training_time_math_1xA6000", "speedup", method, "percent")
