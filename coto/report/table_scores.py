"""Tables of trained runs as they are: scores on the test part, and the learning rates tried."""

import pandas as pd

from coto.report import quantities
from coto.report.baselines import NOTE, with_baselines
from coto.report.comparison import compare
from coto.report.context import with_single_task
from coto.report.display import cell, side_by_side
from coto.report.quantities import ARM
from coto.report.settings import Settings, Style
from coto.report.suites import descriptions
from coto.report.table_base import PERCENT, Frames, empty, notes, ordered, ordered_by_suite, table
from coto.report.writing import Table


@table("single_task")
def single_task(frames: Frames, settings: Settings, style: Style) -> Table:
    """Score of each arm on each task's test part."""
    rows = quantities.test_scores(frames["train"], frames["select"])
    main = compare(quantities.headline(rows), settings)
    other = compare(rows[~rows["headline"].astype(bool)], settings, ["metric"], average=False)
    other = other.loc[:, ~other.columns.duplicated()]
    shown = with_baselines(main, frames.get("baseline"))
    shown = ordered_by_suite(with_single_task(shown, settings))
    data = pd.concat([f for f in (shown, other) if len(f)]) if len(shown) else shown
    index = {"adapter": "adapter", "task": "task", "metric": "metric"}
    more = [NOTE] if (shown["kind"] == "baseline").any() else []
    more += _truncated(quantities.headline(rows))
    return Table(
        "Single-task scores on the test part",
        data,
        side_by_side(shown, index, style.decimals),
        notes(
            settings, shown, *more, "The CSV also has the metrics that are not a task's headline."
        ),
    )


def _truncated(rows: pd.DataFrame) -> list[str]:
    """Say how many test items were cut to what the model may read."""
    items = rows.groupby("suite")[["truncated", "n"]].sum()
    cut = items[items["truncated"] > 0]
    if cut.empty:
        return []
    shares = (f"{suite} {row['truncated'] / row['n']:.2%}" for suite, row in cut.iterrows())
    return [f"Test items that were cut to what the model may read: {', '.join(shares)}."]


@table("learning_rate")
def learning_rate(frames: Frames, settings: Settings, style: Style) -> Table:
    """Validation score of every learning rate tried, and the one that is used."""
    title = "Learning rates, chosen on the validation part"
    train = quantities.headline(frames["train"])
    train = train[train["split"] == "validation"]
    if train.empty:
        return empty(title, "No validation scores.")
    used = quantities.final_runs(frames["train"], frames["select"])[[*ARM, "lr"]].drop_duplicates()
    tidy = compare(train, settings, ["lr"], average=False)
    tidy = tidy.merge(used.assign(selected=True), on=[*ARM, "lr"], how="left")
    tidy["selected"] = tidy["selected"].notna()
    tidy = ordered(tidy.sort_values(["suite", "adapter", "task", "strategy", "lr"], kind="stable"))
    suites = list(dict.fromkeys(tidy["suite"]))
    lines = [
        ({"suite": line["suite"]} if len(suites) > 1 else {})
        | {
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
        title,
        tidy,
        pd.DataFrame(lines),
        (
            PERCENT.format(level=100 * settings.confidence),
            note,
            *descriptions(suites, settings),
        ),
    )
