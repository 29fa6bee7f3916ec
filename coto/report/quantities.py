"""From rows of records to the quantities that tables and claims are about.

Every function returns rows with ``suite, task, adapter, strategy, seed, value``, plus what the
quantity is split by; ``seed`` is a label: a number, or a tuple of numbers where runs are mixed.
"""

import pandas as pd

from coto.errors import CotoError
from coto.operators.registry import OPERATORS

BASELINE = "vanilla"
ARM = ["suite", "task", "adapter", "strategy"]
# What one learning rate is chosen for: what is trained on, not what is scored.
TRAINED = ["suite", "trained_on", "adapter", "strategy"]

# The order in which tables and figures show things; names that are not here follow by alphabet.
ORDER: dict[str, tuple[str, ...]] = {
    "adapter": ("lora", "rslora", "dora", "hira", "pissa"),
    "strategy": (
        *(BASELINE, "coto", "coto-early", "coto-high", "coto-low", "coto-exponential", "coto-sine"),
        *("stochastic-depth", "dropout", "progressive-dropout", "progressive-dropout-0"),
    ),
    "operator": tuple(OPERATORS),
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
    """Training rows of the learning rate that each arm uses.

    Raises:
        CotoError: an arm was trained with several rates and no record chooses exactly one.
    """
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


def test_scores(train: pd.DataFrame, select: pd.DataFrame) -> pd.DataFrame:
    """Scores on the reported split."""
    runs = final_runs(train, select)
    return runs[runs["split"] == "test"]


def path_scores(interpolate: pd.DataFrame) -> pd.DataFrame:
    """Headline scores along the path between two seeds; ``seed`` is the pair."""
    return _mixed(interpolate, 2)


def three_way(interpolate: pd.DataFrame) -> pd.DataFrame:
    """Headline scores of three seeds mixed equally; ``seed`` is the triple."""
    return _mixed(interpolate, 3)


def _mixed(interpolate: pd.DataFrame, count: int) -> pd.DataFrame:
    rows = labelled(headline(over_repeats(interpolate)))
    return rows[rows["seed"].map(len).eq(count).astype(bool)]


def over_repeats(rows: pd.DataFrame) -> pd.DataFrame:
    """One row for all repeats of an operator that draws: the mean over its own seeds.

    ``repeat_sd`` is their standard deviation, NaN of a single repeat; ``repeats`` their number.
    """
    if rows.empty or not rows["repeat"].any():
        return rows.assign(repeat_sd=float("nan"), repeats=1)
    by = [c for c in rows if c not in ("value", "repeat", "flag", "truncated")]
    grouped = rows.groupby(by, dropna=False, sort=False)
    found = grouped.agg(
        value=("value", "mean"),
        repeat_sd=("value", "std"),
        repeats=("value", "size"),
        truncated=("truncated", "max"),
        flag=("flag", "max"),
    )
    return found.reset_index()


def labelled(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows whose ``seeds``, as in ``0-1``, became the label ``seed``: a tuple of numbers."""
    labels = [tuple(int(seed) for seed in seeds.split("-")) for seeds in rows["seeds"]]
    return rows.assign(seed=pd.Series(labels, index=rows.index, dtype=object))


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
    return rows.groupby([*ARM, "seed", "operator"])["value"].mean().reset_index()


def barriers(interpolate: pd.DataFrame) -> pd.DataFrame:
    """How far a path sags below the straight line between the scores of its ends.

    ``max over λ of (1 - λ) s(0) + λ s(1) - s(λ)``, 0 at least, as both ends are on the path. Paths
    without both ends are left out. (Frankle et al., Linear Mode Connectivity, 2020; that the paper
    uses it is inferred.)
    """
    rows = path_scores(interpolate)
    path = [*ARM, "seeds", "operator", "metric"]
    ends = {}
    for name, weight in (("start", 0.0), ("end", 1.0)):
        at = rows[(rows["weight"] - weight).abs() < 1e-9]
        ends[name] = at[[*path, "value"]].rename(columns={"value": name})
    rows = rows.merge(ends["start"], on=path).merge(ends["end"], on=path)
    line = (1 - rows["weight"]) * rows["start"] + rows["weight"] * rows["end"]
    rows = rows.assign(value=line - rows["value"]).drop(columns=["start", "end"])
    return rows.sort_values("value", kind="stable").drop_duplicates(path, keep="last").sort_index()


def merged_scores(merge: pd.DataFrame) -> pd.DataFrame:
    """Headline scores of the merge of the most tasks."""
    rows = headline(over_repeats(merge))
    most = rows.groupby(["suite", "adapter", "strategy"])["merged_tasks"].transform("max")
    return rows[rows["merged_tasks"] == most]


def pruned_mean(prune: pd.DataFrame) -> pd.DataFrame:
    """Mean over the structured prunings; both parities of every other layer count as one.

    The paper's bars are everyother, low, middle, high, query, key and value; which parity its
    everyother keeps is not known.
    """
    rows = structured(prune)
    rows = rows[rows["keep"] != "all"]
    kind = rows["keep"].replace({"odd": "everyother", "even": "everyother"})
    per_kind = rows.assign(kind=kind).groupby([*ARM, "seed", "kind"])["value"].mean()
    return per_kind.groupby([*ARM, "seed"]).mean().reset_index()


def structured(prune: pd.DataFrame) -> pd.DataFrame:
    """Headline scores after removing whole adapters."""
    rows = headline(prune)
    return rows[rows["method"] == "structured"]


def every_other(prune: pd.DataFrame) -> pd.DataFrame:
    """Mean over the two parities of keeping every other layer."""
    rows = structured(prune)
    rows = rows[rows["keep"].isin(["odd", "even"])]
    return rows.groupby([*ARM, "seed"])["value"].mean().reset_index()


def step_times(overhead: pd.DataFrame) -> pd.DataFrame:
    """Seconds per step; ``seed`` numbers an arm's repeated measurements, in record order."""
    repeat = overhead.groupby(ARM).cumcount()
    return overhead.assign(seed=repeat, value=overhead["seconds_per_step"])


def time_saved(overhead: pd.DataFrame) -> pd.DataFrame:
    """Share of the baseline's time per step that an arm saves, per repeat; 0 for the baseline."""
    rows = step_times(overhead)
    place = ["suite", "task", "adapter", "seed"]
    base = rows.loc[rows["strategy"] == BASELINE, [*place, "value"]]
    rows = rows.merge(base.rename(columns={"value": "base"}), on=place)
    return rows.assign(value=1 - rows["value"] / rows["base"]).drop(columns="base")


def against_strongest(rows: pd.DataFrame, arm: str = "coto") -> pd.DataFrame:
    """An arm's rows, and as its baseline those of its strongest rival other than the baseline.

    The rival is the strategy that is no kind of CoTo with the highest mean over tasks and seeds,
    per suite and adapter. Choosing it after the fact is unfair to ``arm``, on purpose. No rows
    where there is no rival.
    """
    rivals = rows[~rows["strategy"].str.startswith("coto") & (rows["strategy"] != BASELINE)]
    found = []
    for (suite, adapter), group in rivals.groupby(["suite", "adapter"]):
        strongest = group.groupby("strategy")["value"].mean().idxmax()
        ours = (rows["suite"] == suite) & (rows["adapter"] == adapter) & (rows["strategy"] == arm)
        rival = group[group["strategy"] == strongest]
        found += [rows[ours], rival.assign(strategy=BASELINE, rival=str(strongest))]
    return pd.concat(found) if found else rows.iloc[:0]


def headline(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of each task's headline metric."""
    return rows[rows["headline"].astype(bool)]
