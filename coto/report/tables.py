"""The tables, found by name.

A table is a function from rows of the stages and the settings to a :class:`Table`; to add one,
write the function and decorate it with its name. A table without measurements says why instead.
"""

from collections.abc import Callable, Mapping

import pandas as pd

from coto.report import quantities
from coto.report.comparison import AVERAGE, cell, compare, side_by_side
from coto.report.context import time_saved, with_clip, with_glue
from coto.report.quantities import ARM, BASELINE, ranked
from coto.report.settings import Settings, Style
from coto.report.statistics import mean_interval
from coto.report.writing import Table

Frames = Mapping[str, pd.DataFrame]
Builder = Callable[[Frames, Settings, Style], Table]

TABLES: dict[str, Builder] = {}


PERCENT = "Percent. In brackets: {level:.0f} % intervals."
OVER_SEEDS = (
    "Arms: Student's t interval over seeds; Average: of the seeds' averages over tasks. "
    "Differences are paired by seed; that of Average is the paired effect over tasks and seeds "
    "with the bootstrap interval that the claims use."
)
COLLAPSED = "† A run of this mean is flagged, for example collapsed: one class for every item."
TWO_VALUES = (
    "Two values give a very wide Student interval, which may leave the range of possible scores."
)
CONTEXT = "The paper's rows are context, not targets: other backbone, data and training length."


def table(name: str) -> Callable[[Builder], Builder]:
    """Register a builder under a name, which is also the name of its files."""

    def register(builder: Builder) -> Builder:
        TABLES[name] = builder
        return builder

    return register


@table("single_task")
def single_task(frames: Frames, settings: Settings, style: Style) -> Table:
    """Score of each arm on each task's test part."""
    rows = quantities.test_scores(frames["train"], frames["select"])
    main = compare(quantities.headline(rows), settings)
    other = compare(rows[~rows["headline"].astype(bool)], settings, ["metric"], average=False)
    other = other.loc[:, ~other.columns.duplicated()]
    shown = with_glue(main, {"": "Task LoRA"})
    data = pd.concat([f for f in (shown, other) if len(f)]) if len(shown) else shown
    display = side_by_side(
        shown, {"adapter": "adapter", "task": "task", "metric": "metric"}, style.decimals
    )
    return Table(
        "Single-task scores on the test part",
        data,
        display,
        _notes(settings, shown, "The CSV also has the metrics that are not a task's headline."),
    )


@table("interpolation")
def interpolation(frames: Frames, settings: Settings, style: Style) -> Table:
    """Scores on the path between two seeds: half-way, and the barrier; all weights in the CSV."""
    title = "Linear mode connectivity: the path between two seeds of one run"
    if frames["interpolate"].empty:
        return _empty(title, "No paths were measured: they need two seeds.")
    path = compare(quantities.path_scores(frames["interpolate"]), settings, ["space", "weight"])
    barrier = compare(quantities.barriers(frames["interpolate"]), settings, ["space"])
    path, barrier = path.assign(quantity="score"), barrier.assign(quantity="barrier")
    middle = path[(path["weight"] - 0.5).abs() < 1e-9].assign(quantity="score at λ = 0.5")
    shown = _ordered(pd.concat([middle, barrier]).drop(columns="weight"))
    index = {"adapter": "adapter", "space": "space", "quantity": "quantity", "task": "task"}
    display = side_by_side(shown, index, style.decimals).drop(columns="source")
    return Table(
        title,
        pd.concat([path, barrier]),
        display,
        _notes(
            settings,
            shown,
            "λ is the weight of the second seed. fusion averages A and B, ensemble averages ΔW.",
            "Barrier: how far the path sags below the straight line between its ends, at most; "
            "smaller is better.",
            "One value per pair of seeds; pairs that share a seed are not independent.",
        ),
    )


@table("multitask_merging")
def multitask_merging(frames: Frames, settings: Settings, style: Style) -> Table:
    """Scores of one adapter merged from all tasks, each task with its own head."""
    title = "Multi-task merging: one adapter for all tasks"
    if frames["merge"].empty:
        return _empty(title, "No merges were measured: they need a suite of two or more tasks.")
    tidy = compare(quantities.merged_scores(frames["merge"]), settings, ["space"])
    shown = with_glue(tidy, {"fusion": "Linear Fusion", "ensemble": "Ensemble"}, "space")
    index = {"adapter": "adapter", "space": "space", "task": "task", "metric": "metric"}
    most = int(frames["merge"]["merged_tasks"].max())
    notes = _notes(
        settings,
        shown,
        f"{most} tasks merged with equal weights unless configured otherwise. "
        "fusion averages A and B, ensemble averages ΔW.",
        "The merge of one seed is one model for all tasks, so its tasks are not independent.",
    )
    return Table(title, shown, side_by_side(shown, index, style.decimals), notes)


@table("pruning")
def pruning(frames: Frames, settings: Settings, style: Style) -> Table:
    """Scores after removing adapters without retraining, beside the paper's CLIP averages."""
    title = "Structured pruning without retraining, average over tasks"
    if frames["prune"].empty:
        return _empty(title, "Pruning was not measured.")
    rows = quantities.headline(frames["prune"])
    tidy = compare(rows, settings, ["keep"])
    kept = rows.groupby(["suite", "adapter", "keep"])[["adapters_kept", "adapters_total"]].first()
    tidy = tidy.merge(kept.reset_index(), on=["suite", "adapter", "keep"], how="left")
    single = rows.groupby("suite")["task"].transform("nunique").eq(1).all()
    shown = tidy if single else tidy[tidy["task"] == AVERAGE]
    shown = shown.assign(
        share=shown["adapters_kept"].astype(str) + "/" + shown["adapters_total"].astype(str)
    )
    index = {"adapter": "adapter", "keep": "kept", "share": "adapters"}
    display = side_by_side(shown, index, style.decimals).drop(columns="source")
    display, tidy, quality = with_clip(display, tidy)
    notes = _notes(
        settings,
        shown,
        "odd and even keep every other layer; low, middle and high a third of the layers; query, "
        "key and value one projection. The CSV has every task.",
        f"The paper's column is another suite ({quality}; rebuttal figure r7 in the authors' "
        "repository; both arms the authors' own runs) and its everyother stands beside both "
        "parities.",
    )
    return Table(title, tidy, display, notes)


@table("training_time")
def training_time(frames: Frames, settings: Settings, style: Style) -> Table:
    """Seconds per step of each arm, and the share of the baseline's time that an arm saves."""
    title = "Training time"
    if frames["overhead"].empty:
        return _empty(title, "Training time was not measured.")
    times = quantities.step_times(frames["overhead"])
    saved = compare(quantities.time_saved(frames["overhead"]), settings, average=False)
    saved = saved.rename(columns={"mean": "saved", "low": "saved_low", "high": "saved_high"})
    saved = saved[[*ARM, "saved", "saved_low", "saved_high"]]
    lines = []
    for _, arm in times.groupby(ARM):
        interval = mean_interval(arm["value"], settings.confidence)
        first = arm.iloc[0]
        line = {name: first[name] for name in ARM} | {
            "seconds_per_step": interval.mean,
            "seconds_low": interval.low,
            "seconds_high": interval.high,
            "repeats": interval.n,
            "steps": int(arm["steps"].sum()),
            "active_share": arm["active_share"].mean(),
            **{name: first[name] for name in ("batch_size", "threads", "device", "hardware")},
        }
        reported = time_saved(first["adapter"]) if first["strategy"] == "coto" else None
        line["paper_saved"] = reported.value / 100 if reported else float("nan")
        lines.append(line)
    order = ranked("strategy", list(times["strategy"]))
    lines.sort(key=lambda line: order.index(line["strategy"]))
    data = _ordered(pd.DataFrame(lines).merge(saved, on=ARM, how="left"))
    display = pd.DataFrame(
        {
            "adapter": line["adapter"],
            "strategy": line["strategy"],
            "ms per step": f"{1000 * line['seconds_per_step']:.{style.decimals}f}",
            "time saved": ""
            if line["strategy"] == BASELINE
            else cell(line["saved"], style.decimals, (line["saved_low"], line["saved_high"])),
            "active adapters": cell(line["active_share"], style.decimals),
            "steps timed": str(line["steps"]),
            "hardware": f"{line['hardware']}, {line['threads']} threads, "
            f"batch {line['batch_size']}",
            "paper, LLaMA-2-7B, time saved": cell(line["paper_saved"], 1),
        }
        for _, line in data.iterrows()
    )
    source = time_saved("lora")
    assert source is not None
    notes = (
        "Percent where not said otherwise. Both arms run interleaved in one process; intervals "
        f"({100 * settings.confidence:.0f} %) where the measurement was repeated.",
        "Active adapters: mean share of adapters that the timed steps had switched on.",
        f"Paper: wall-clock time of math fine-tuning on one A6000 ({source.provenance}).",
    )
    return Table(title, data, display, notes)


@table("learning_rate")
def learning_rate(frames: Frames, settings: Settings, style: Style) -> Table:
    """Validation score of every learning rate tried, and the one that is used."""
    title = "Learning rates, chosen on the validation part"
    train = quantities.headline(frames["train"])
    train = train[train["split"] == "validation"]
    if train.empty:
        return _empty(title, "No validation scores.")
    used = quantities.final_runs(frames["train"], frames["select"])[[*ARM, "lr"]].drop_duplicates()
    tidy = compare(train, settings, ["lr"], average=False)
    tidy = tidy.merge(used.assign(selected=True), on=[*ARM, "lr"], how="left")
    tidy["selected"] = tidy["selected"].notna()
    tidy = _ordered(tidy.sort_values(["suite", "adapter", "task", "strategy", "lr"], kind="stable"))
    lines = [
        {
            "adapter": line["adapter"],
            "task": line["task"],
            "strategy": line["strategy"],
            "learning rate": f"{line['lr']:g}",
            "validation score": cell(line["mean"], style.decimals, (line["low"], line["high"])),
            "seeds": str(line["n_seeds"]),
            "used": "yes" if line["selected"] else "",
        }
        for _, line in tidy.iterrows()
    ]
    several = tidy.groupby(ARM)["lr"].nunique().max() > 1
    note = (
        "Each arm uses the rate with the best mean validation score; the test part has no say."
        if several
        else "One learning rate per arm: there was nothing to choose in this run."
    )
    return Table(
        title, tidy, pd.DataFrame(lines), (PERCENT.format(level=100 * settings.confidence), note)
    )


def _ordered(tidy: pd.DataFrame) -> pd.DataFrame:
    """Sort by the display order of suites, adapters and spaces; within them as it stands."""
    for column in ("space", "adapter", "suite"):
        if column in tidy:
            order = ranked(column, list(tidy[column]))
            tidy = tidy.sort_values(column, key=lambda c, o=order: c.map(o.index), kind="stable")
    return tidy.reset_index(drop=True)


def _notes(settings: Settings, shown: pd.DataFrame, *more: str) -> tuple[str, ...]:
    notes = [PERCENT.format(level=100 * settings.confidence), OVER_SEEDS, *more]
    if (shown["n_values"] == 2).any():
        notes.append(TWO_VALUES)
    if (shown["kind"] == "paper").any():
        notes.append(CONTEXT)
    if (shown["flagged"] > 0).any():
        notes.append(COLLAPSED)
    return tuple(notes)


def _empty(title: str, reason: str) -> Table:
    columns = [*ARM, "kind", "mean"]
    return Table(title, pd.DataFrame(columns=columns), pd.DataFrame(), (reason,))
