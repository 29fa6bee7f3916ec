"""Single tasks: tables of trained runs as they are, and the claims about their scores."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pandas as pd

from coto.config.models import Tables
from coto.findings.items import ITEM_COLUMNS, over_items
from coto.findings.merging.quantities import BARRIER, midpoints
from coto.findings.pruning import every_other
from coto.report import quantities, tables
from coto.report.claim import CLAIMS, POOLED, Claim, by_operator
from coto.report.comparison import AVERAGE, compare
from coto.report.paper import PAPER_NAMES, Reported, glue
from coto.report.quantities import ARM, against_strongest, headline, single_scores
from coto.report.records import Frames
from coto.report.sensitivity import WORTH
from coto.report.settings import Settings, descriptions
from coto.report.tables import Block, cell, table
from coto.report.writing import Table


@table("single_task", needs=("baseline", "train", "select"))
def single_task(frames: Frames, settings: Settings, style: Tables) -> Table:
    """Headline score of every arm on the test part of its task.

    The learning rate is the one that the validation part chose. Means are in percent, with the
    number of seeds and intervals in brackets; full precision and single tasks are in the CSV. Lines
    with *no training* say what the bare backbone, the most frequent answer and guessing give. The
    paper's averages over tasks of the same kind stand below as context, with their source.
    """
    rows = quantities.test_scores(frames)
    main = compare(headline(rows), settings)
    other = compare(rows[~rows["headline"].astype(bool)], settings, ["metric"], average=False)
    other = other.loc[:, ~other.columns.duplicated()]
    lines = with_single_task(with_baselines(main, frames.get("baseline")), settings)
    # A suite's lines together, in the order in which they stand.
    order = pd.Index(lines["suite"].unique()).get_indexer
    lines = lines.sort_values("suite", key=order, kind="stable", ignore_index=True)
    more = [NOTE] if (lines["kind"] == "baseline").any() else []
    more += _truncated(headline(rows))
    more.append("The CSV also has the metrics that are not a task's headline.")
    index = {"adapter": "adapter", "task": "task", "metric": "metric"}
    return Table(
        "Single-task scores on the test part",
        pd.concat([part for part in (lines, other) if len(part)]) if len(lines) else lines,
        tables.side_by_side(lines, index, style.decimals),
        tables.notes(settings, lines, *more),
    )


def _truncated(rows: pd.DataFrame) -> list[str]:
    """Say how many test items were cut to what the model may read."""
    items = rows.groupby("suite")[["truncated", "n"]].sum()
    cut = items[items["truncated"] > 0]
    if cut.empty:
        return []
    shares = (f"{suite} {row['truncated'] / row['n']:.2%}" for suite, row in cut.iterrows())
    return [f"Test items that were cut to what the model may read: {', '.join(shares)}."]


@table("learning_rate", needs=("train", "select"))
def learning_rate(frames: Frames, settings: Settings, style: Tables) -> Table:
    """Validation score of every learning rate that was tried, and the one that is used.

    The test part has no say in the choice.
    """
    title = "Learning rates, chosen on the validation part"
    train = headline(frames["train"])
    train = train[train["split"] == "validation"]
    if train.empty:
        return tables.empty(title, "No validation scores.")
    used = quantities.final_runs(frames["train"], frames["select"])[[*ARM, "lr"]].drop_duplicates()
    tidy = compare(train, settings, ["lr"], average=False)
    tidy = tidy.merge(used.assign(selected=True), on=[*ARM, "lr"], how="left")
    tidy["selected"] = tidy["selected"].notna()
    order = ["suite", "adapter", "task", "strategy", "lr"]
    tidy = tables.ordered(tidy.sort_values(order, kind="stable"))
    display = tables.displayed(
        {
            **{name: line[name] for name in ("suite", "adapter", "task", "strategy")},
            "learning rate": f"{line['lr']:g}",
            "validation score": cell(line["mean"], style.decimals, (line["low"], line["high"])),
            "seeds": str(line["n_seeds"]),
            "used": "yes" if line["selected"] else "",
        }
        for _, line in tidy.iterrows()
    )
    several = tidy.groupby(ARM)["lr"].nunique().max() > 1
    note = (
        "Each arm uses the rate with the best mean validation score; the test part has no say."
        if several
        else "One learning rate per arm: there was nothing to choose in this run."
    )
    suites = list(dict.fromkeys(tidy["suite"]))
    percent = tables.PERCENT.format(level=100 * settings.confidence)
    return Table(title, tidy, display, (percent, note, *descriptions(suites, settings)))


# In the order in which they are shown.
METHODS = {"zero-shot": "zero-shot", "majority": "majority class", "random": "random guessing"}
NOTE = (
    "no training: zero-shot is the bare backbone, majority class answers every item with what is "
    "most frequent in the training part (in the test part, where training has no such items), "
    "random guessing is its expected score."
)


def with_baselines(tidy: pd.DataFrame, baseline: pd.DataFrame | None) -> pd.DataFrame:
    """Append lines of kind ``baseline`` from its rows; their ``adapter`` is the method's name.

    They are single values per task, without seeds, interval and difference, and have an average
    where every task of the suite has a value.
    """
    if baseline is None or baseline.empty:
        return tidy
    lines: list[dict[str, Any]] = []
    for suite, trained in tidy.groupby("suite", sort=False):
        average = trained[trained["task"] == AVERAGE]
        for method, name in METHODS.items():
            rows = baseline[(baseline["suite"] == suite) & (baseline["method"] == method)]
            rows = headline(rows).sort_values("task")
            values = rows[["task", "metric", "value", "n"]].to_numpy().tolist()
            if len(average) and {AVERAGE, *rows["task"]} == set(trained["task"]):
                ends = rows["value"].mean(), rows["n"].sum()
                values.append([AVERAGE, average["metric"].iloc[0], *ends])
            place = {"suite": suite, "adapter": name, "strategy": method}
            place |= {"kind": "baseline", "flagged": 0, "source": "this run"}
            columns = ("task", "metric", "mean", "n_test")
            lines += [place | dict(zip(columns, line, strict=True)) for line in values]
    return tables.append_lines(tidy, lines)


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
