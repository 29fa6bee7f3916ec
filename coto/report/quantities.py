"""From rows of records to the quantities that tables and claims are about.

Every function returns rows with ``suite, task, adapter, strategy, seed, value``, plus what the
quantity is split by; ``seed`` is a label: a number, or a tuple of numbers where runs are mixed.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from coto.errors import CotoError
from coto.report.records import Frames

BASELINE, STRATEGY = "vanilla", "coto"
ARM = ["suite", "task", "adapter", "strategy"]
RUN = [*ARM, "seed"]
# What one learning rate is chosen for: what is trained on, not what is scored.
TRAINED = ["suite", "trained_on", "adapter", "strategy"]

# The order in which tables and figures show things; names that are not here follow by alphabet.
ORDER: dict[str, tuple[str, ...]] = {
    "adapter": ("lora", "rslora", "dora", "hira", "pissa"),
    "strategy": (
        *(BASELINE, "coto", "coto-early", "coto-high", "coto-low", "coto-exponential", "coto-sine"),
        *("stochastic-depth", "dropout", "progressive-dropout", "progressive-dropout-0"),
    ),
    "operator": (
        *("fusion", "ensemble", "lora-align", "lora-lego", "task-arithmetic", "ties"),
        *("dare", "dare-ties", "knots"),
    ),
    "keep": ("all", "odd", "even", "low", "middle", "high", "query", "key", "value"),
    "period": ("whole", "first half", "second half"),
    "third": ("lower", "middle", "higher"),
    "relation": (
        *("same strategy, other seed", "same seed, other strategy"),
        *("vs pretrained", "vs start"),
    ),
}


def ranked(column: str, names: pd.Series | list[str]) -> list[str]:
    """Distinct names in the order in which they are shown."""
    known = ORDER.get(column, ())
    position = {name: i for i, name in enumerate(known)}
    return sorted(set(names), key=lambda name: (position.get(name, len(known)), name))


def final_runs(train: pd.DataFrame, select: pd.DataFrame) -> pd.DataFrame:
    """Training rows of each arm's learning rate; CotoError unless one of several is selected."""
    chosen = select[select["selected"].astype(bool)] if len(select) else select
    chosen = chosen[[*TRAINED, "lr"]].drop_duplicates()
    rates = train[[*TRAINED, "lr"]].drop_duplicates()
    merged = rates.merge(chosen.assign(chosen=True), on=[*TRAINED, "lr"], how="left")
    arms = merged.groupby(TRAINED)
    undecided = arms["lr"].transform("size").gt(1) & arms["chosen"].transform("count").ne(1)
    if undecided.any():
        arm = "/".join(merged.loc[undecided, TRAINED].iloc[0])
        raise CotoError(f"select: {arm}: expected one selected learning rate out of several")
    used = merged[merged["chosen"].notna() | arms["lr"].transform("size").eq(1)]
    return train.merge(used[[*TRAINED, "lr"]], on=[*TRAINED, "lr"])


def test_scores(frames: Frames) -> pd.DataFrame:
    """Scores on the reported split."""
    runs = final_runs(frames["train"], frames["select"])
    return runs[runs["split"] == "test"]


def over_repeats(rows: pd.DataFrame) -> pd.DataFrame:
    """One row for all repeats of an operator that draws: the mean over its own seeds.

    ``repeat_sd`` is their standard deviation, NaN of a single repeat; ``repeats`` their number.
    """
    if rows.empty or not rows["repeat"].any():
        return rows.assign(repeat_sd=float("nan"), repeats=1)
    by = [c for c in rows if c not in ("value", "repeat", "flag", "truncated", "left_out")]
    new = {"value": ("value", "mean"), "repeat_sd": ("value", "std"), "repeats": ("value", "size")}
    new |= {name: (name, "max") for name in ("truncated", "left_out", "flag")}
    return rows.groupby(by, dropna=False, sort=False).agg(**new).reset_index()


def labelled(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows whose ``seeds``, as in ``0-1``, became the label ``seed``: a tuple of numbers."""
    labels = [tuple(int(seed) for seed in seeds.split("-")) for seeds in rows["seeds"]]
    return rows.assign(seed=pd.Series(labels, index=rows.index, dtype=object))


def against_strongest(rows: pd.DataFrame) -> pd.DataFrame:
    """CoTo's rows, and as its baseline those of its strongest rival other than the baseline.

    The rival is the strategy that is no kind of CoTo with the highest mean over tasks and seeds,
    per suite and adapter. Choosing it after the fact is unfair to CoTo, on purpose.
    """
    rivals = rows[~rows["strategy"].str.startswith("coto") & (rows["strategy"] != BASELINE)]
    ours = rows[rows["strategy"] == STRATEGY]
    parts = []
    for (suite, adapter), group in rivals.groupby(["suite", "adapter"]):
        strongest = group.groupby("strategy")["value"].mean().idxmax()
        rival = group[group["strategy"] == strongest]
        parts.append(ours[(ours["suite"] == suite) & (ours["adapter"] == adapter)])
        parts.append(rival.assign(strategy=BASELINE, rival=str(strongest)))
    return pd.concat(parts) if parts else rows.iloc[:0]


def single_scores(frames: Frames) -> pd.DataFrame:
    """Headline scores on the test part."""
    return headline(test_scores(frames))


def worth_of_adapters(frames: Frames) -> pd.DataFrame:
    """What the adapters of each run are worth: its score with all of them, and with none.

    With ``none`` the trained head works on the bare backbone. What it scores is no merit of the
    adapters, so nothing that is done to them can show below it.

    Returns:
        Rows with ``suite, task, adapter, strategy, seed, all, none``: headline scores on the test
        part, as fractions, of the runs at their arms' learning rates. Runs whose record of *none*
        is not there are left out.
    """
    whole = single_scores(frames).rename(columns={"value": "all"})
    bare = headline(frames["none"]).rename(columns={"value": "none"})
    place = [*RUN, "trained_on", "lr", "split", "metric"]
    both = whole[[*place, "all"]].merge(bare[[*place, "none"]], on=place)
    return both[[*RUN, "all", "none"]]


def headline(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of each task's headline metric."""
    return rows[rows["headline"].astype(bool)]


def mean_height(rows: pd.DataFrame, x: str, by: Sequence[str]) -> pd.DataFrame:
    """Area under each curve by the trapezoid rule, divided by its width; curves of no width go."""
    areas = []
    for key, curve in rows.sort_values(x).groupby(list(by)):
        at = curve[x].to_numpy(float)
        if at[-1] > at[0]:
            area = np.trapezoid(curve["value"].to_numpy(float), at)
            areas.append((*key, float(area / (at[-1] - at[0]))))
    return pd.DataFrame(areas, columns=[*by, "value"])
