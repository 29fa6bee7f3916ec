"""Single tasks: tables of trained runs as they are, and the claims about their scores."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pandas as pd

from coto.config.models import Tables
from coto.findings.answers import BESIDE
from coto.findings.items import ITEM_COLUMNS, over_items
from coto.findings.merging.quantities import BARRIER, midpoints
from coto.findings.pruning import every_other
from coto.findings.untrained import NOTES, displayed, with_baselines, with_none
from coto.report import quantities, tables
from coto.report.claim import CLAIMS, POOLED, Claim, by_operator
from coto.report.comparison import AVERAGE, compare
from coto.report.paper import PAPER_NAMES, Reported, glue
from coto.report.quantities import against_strongest, headline, single_scores
from coto.report.records import Frames
from coto.report.sensitivity import WORTH
from coto.report.settings import Settings
from coto.report.tables import Block, table
from coto.report.writing import Table


@table("single_task", needs=("baseline", "train", "none", "select"))
def single_task(frames: Frames, settings: Settings, style: Tables) -> Table:
    """Headline score of every arm on the test part of its task, beside what no adapter gives.

    The learning rate is the one that the validation part chose. Means are in percent, with the
    number of seeds and intervals in brackets; full precision and single tasks are in the CSV.
    *none* is the same runs with every adapter removed: what is above it is the adapters' worth.
    *probe* is a linear probe on the frozen backbone. The paper's averages over tasks of the same
    kind stand below as context, with their source.
    """
    title = "Single-task scores on the test part"
    rows = quantities.test_scores(frames)
    if rows.empty:
        return tables.empty(title, "No run was scored on its test part.")
    main = compare(headline(rows), settings)
    other = compare(rows[~rows["headline"].astype(bool)], settings, ["metric"], average=False)
    other = other.loc[:, ~other.columns.duplicated()]
    beside = other[other["metric"].isin(BESIDE)]
    trained = with_none(main, frames, settings)
    lines = _by_suite(with_single_task(with_baselines(trained, frames.get("baseline")), settings))
    kinds = set(lines["kind"])
    more = [text for kind, text in NOTES.items() if kind in kinds]
    more += _lengths(headline(rows))
    more += [f"{name}: {text}" for name, text in BESIDE.items() if name in set(beside["metric"])]
    more.append("The CSV also has the other metrics that are not a task's headline.")
    shown = _by_suite(pd.concat([lines, beside])) if len(beside) else lines
    return Table(
        title,
        pd.concat([part for part in (lines, other) if len(part)]),
        displayed(shown, style),
        tables.notes(settings, lines, *more),
    )


def _by_suite(lines: pd.DataFrame) -> pd.DataFrame:
    """A suite's lines together, in the order in which they stand."""
    order = pd.Index(lines["suite"].unique()).get_indexer
    return lines.sort_values("suite", key=order, kind="stable", ignore_index=True)


def _lengths(rows: pd.DataFrame) -> list[str]:
    """Say how many test items were cut to what the model may read, or left out as too long."""
    items = rows.groupby("suite")[["truncated", "left_out", "n"]].sum()
    cut, long = items[items["truncated"] > 0], items[items["left_out"] > 0]
    said = []
    if len(cut):
        shares = (f"{suite} {row['truncated'] / row['n']:.2%}" for suite, row in cut.iterrows())
        said.append(f"Test items that were cut to what the model may read: {', '.join(shares)}.")
    if len(long):
        whole = long["left_out"] + long["n"]
        shares = (f"{suite} {share:.2%}" for suite, share in (long["left_out"] / whole).items())
        said.append(f"Test items that were left out as too long: {', '.join(shares)}.")
    return said


def _both(names: str) -> dict[str, tuple[str, str]]:
    return {name.lower(): (name, f"{name}-CoTo") for name in names.split()}


def _alone(dora: str) -> dict[str, tuple[str]]:
    """The baselines that the paper copied, where they were published."""
    return {"lora": ("LoRA r32 lr3e-4",), "dora": (f"DoRA r32 {dora}",), "hira": ("HiRA r32",)}


_EIGHT, _COPIED = "eight commonsense sets", "DoRA README and HiRA paper"
_UP, _VISION = "upstream_commonsense", "vision_11_datasets"
_MEAN, _THREE = (AVERAGE, "accuracy(%)"), _both("LoRA DoRA HiRA")
_GLUE = AVERAGE, "accuracy(%) GLUE dev", {"lora": ("Task LoRA", "Task LoRA +CoTo")}
_GSM8K = "GSM8K", "accuracy(%)", _both("LoRA DoRA HiRA rsLoRA"), "gsm8k"
# By the kind of a suite's tasks.
SINGLE_TASK: dict[str, tuple[Block, ...]] = {
    "text": (
        Block("paper, DeBERTa-v3-base, six GLUE tasks", "glue_merge_deberta_v3_lr5e-4", *_GLUE),
    ),
    "language": (
        Block(f"paper, LLaMA-3-8B, {_EIGHT}", "commonsense8_llama3_8b_r32", *_MEAN, _THREE),
        Block(f"paper, LLaMA-2-7B, {_EIGHT}", "commonsense8_llama2_7b_r32", *_MEAN, _both("LoRA")),
        Block(f"{_COPIED}, LLaMA-3-8B, {_EIGHT}", f"{_UP}_llama3_8b", *_MEAN, _alone("lr1e-4")),
        Block(f"{_COPIED}, LLaMA-2-7B, {_EIGHT}", f"{_UP}_llama2_7b", *_MEAN, _alone("lr2e-4")),
        Block("paper, LLaMA-2-7B, GSM8K", "math_gsm8k_llama2_7b_r8", *_GSM8K),
    ),
    "image": (
        Block("paper, CLIP ViT-B/16, 11 image sets", f"{_VISION}_vitb16_r2", *_MEAN, _THREE),
    ),
}


def with_single_task(tidy: pd.DataFrame, settings: Settings) -> pd.DataFrame:
    """Append the paper's single-task averages of each suite's kind, as lines of kind ``paper``."""
    lines: list[dict[str, Any]] = []
    for suite in dict.fromkeys(tidy["suite"]):
        for block in SINGLE_TASK.get(settings.kind(suite) or "text", ()):
            lines += tables.block_lines(tidy[tidy["suite"] == suite], suite, block)
    return tables.append_lines(tidy, lines)


def _reported(adapter: str) -> tuple[Reported, ...]:
    """The paper's single-task averages of an adapter kind."""
    name = PAPER_NAMES[adapter]
    percent, mean, three = "accuracy(%)", "Average", "lora dora hira"
    numbers = [glue("Task LoRA", lr) for lr in ("5e-4", "1e-3") if adapter == "lora"]
    for kind, label, experiment, task, adapters in (
        ("image", "vision, 11 sets, ViT-B/16", "vision_11_datasets_vitb16_r2", mean, three),
        ("language", "commonsense, LLaMA-3-8B", "commonsense8_llama3_8b_r32", mean, three),
        ("language", "commonsense, LLaMA-2-7B", "commonsense8_llama2_7b_r32", mean, "lora"),
        ("language", "GSM8K, LLaMA-2-7B", "math_gsm8k_llama2_7b_r8", "GSM8K", f"{three} rslora"),
    ):
        if adapter in adapters.split():
            numbers.append(Reported(label, experiment, task, percent, f"{name}-CoTo", name, kind))
    return tuple(numbers)


def _rivals(metric: str) -> tuple[Reported, ...]:
    """Few-shot CLIP results of the other strategies, each beside CoTo's."""
    return tuple(
        Reported(f"{task}, {rival}", "vision_strategies", task, metric, "CoTo", rival, "image")
        for task in ("DTD", "UCF101")
        for rival in ("Dropout", "Progressive Dropout", "Stochastic Depth for LoRA")
    )


_BOOSTS = "CoTo consistently boosts single-task performance, with LoRA and its variants."
_BOTH = "test scores of both arms"


def _claim(name: str, **different: Any) -> Claim:
    """A claim about headline scores on the test part."""
    common: dict[str, Any] = {
        "statement": _BOOSTS,
        "test": "Headline score on the test part, CoTo minus vanilla.",
        "table": "single_task",
        "rows": "kind == 'measured'",
        "family": "generalisation",
        "quantity": single_scores,
        "margin": 0.5,  # the paper's own gains on vision are 0.4 to 0.5 points
    }
    return Claim(name=name, **(common | different))


def _where(name: str, kind: str, statement: str, optional: str) -> Claim:
    """Where the gains hold: a claim that suites of one kind can test."""
    return _claim(
        name,
        statement=statement,
        test="Headline score on the test part of each evaluation set, CoTo minus vanilla.",
        reported={POOLED: tuple(value for value in _reported("lora") if value.kind == kind)},
        needs=_BOTH,
        role="secondary",
        caution="These are the runs of the claim single-task in such suites: no second piece of "
        "evidence. The backbone here is the suite's, not the paper's.",
        kind=kind,
        apart=False,
        optional=optional,
        listed_with="rivals",
    )


def _beats(
    name: str, test: str, quantity: Callable[[Frames], pd.DataFrame], metric: str, **different: Any
) -> Claim:
    """CoTo against its strongest rival by one score."""
    settings = {"margin": 1.0, "role": "secondary"} | different
    return _claim(
        name,
        statement="CoTo beats dropout, progressive dropout and stochastic depth.",
        test=f"{test}, CoTo minus the strongest other strategy but vanilla.",
        family="rivals",
        quantity=lambda frames: against_strongest(quantity(frames)),
        reported={"lora": _rivals(metric)},
        caution="The strongest rival is chosen by the scores that are then compared, which is "
        "unfair to CoTo.",
        optional="no suite of this run has another strategy; a study of strategies has its "
        "verdicts below its own table (results/studies)",
        **settings,
    )


def _of_variants(frames: Frames) -> pd.DataFrame:
    rows = single_scores(frames)
    return rows[rows["adapter"] != "lora"]


_CLAIMS = (
    _claim("single-task", reported={kind: _reported(kind) for kind in PAPER_NAMES}, needs=_BOTH),
    _claim(
        "single-task-items",
        test="Share of test items answered right, CoTo minus vanilla, paired by item: would these "
        "trained runs differ on other items of these tasks?",
        quantity=lambda frames: frames.get("items", pd.DataFrame(columns=ITEM_COLUMNS)),
        estimate=over_items,
        replicates="items",
        role="secondary",
        caution="The pairs are items, each the mean over seeds and adapter kinds. Another training "
        "run is a question that only the test over seeds asks.",
        apart=False,
        optional="the answers of the runs were not given",
    ),
    _claim(
        "variants",
        statement="CoTo is compatible with variants of LoRA and improves them.",
        test="Headline score on the test part, CoTo minus vanilla, of all adapter kinds but plain "
        "LoRA together.",
        rows="kind == 'measured' and adapter != 'lora'",
        family="variants",
        quantity=_of_variants,
        reported={
            POOLED: tuple(
                replace(value, label=f"{name}, {value.label}")
                for adapter, name in PAPER_NAMES.items()
                if adapter != "lora"
                for value in _reported(adapter)
            )
        },
        apart=False,
        caution="A part of the runs of the claim single-task.",
        optional="this run has no adapter kind but plain LoRA",
    ),
    _where(
        *("language-models", "language"),
        "The gains hold for commonsense reasoning and math with language models of 7 to 8 billion "
        "parameters.",
        "this run has no suite with a language model",
    ),
    _where(
        *("vision", "image"),
        "The gains hold for few-shot image classification with CLIP.",
        "this run has no suite of images",
    ),
    _beats(
        "strategies",
        "Score half-way between two seeds (factors A and B averaged)",
        lambda f: by_operator(midpoints(f["interpolate"]), "fusion"),
        "merging 1:1 acc(%)",
        table="interpolation",
        rows="operator == 'fusion' and quantity == 'score' and weight == 0.5",
        records=("interpolate",),
        sensitivity=BARRIER,
        role="main",
    ),
    _beats(
        "strategies-pruning",
        "Score with every other layer's adapters removed",
        lambda f: every_other(f["prune"]),
        "pruning everyother acc(%)",
        table="pruning",
        rows="keep in ('odd', 'even')",
        records=("prune",),
        sensitivity=WORTH,
    ),
    _beats(
        *("strategies-single", "Headline score on the test part", single_scores),
        "generalization acc(%)",
        margin=0.5,
    ),
)
for _one in _CLAIMS:
    CLAIMS.add(_one)
