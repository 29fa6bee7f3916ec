"""What a test part gives without any model: the most frequent answer, and guessing."""

from collections.abc import Iterable

import numpy as np
import pandas as pd

from coto.tasks.task import Task
from coto.tasks.text import TextTask
from coto.workbench.base import Scores


def chance(task: Task, train: pd.DataFrame, test: pd.DataFrame) -> dict[str, list[Scores]]:
    """Scores of the answer that is most frequent in training, and of guessing, by method.

    Guessing is scored by its expectation, the mean of 1/number of choices, and has no items. Where
    answers are no classes (regression, worked solutions) there is neither.

    Args:
        task: The task.
        train: Its training rows.
        test: Its test rows; of a language task, of all its evaluation sets.

    Returns:
        ``majority`` and ``random`` -> scores by evaluation set; empty where there is neither.
    """
    if task.kind == "language":
        sets = {str(name): rows for name, rows in test.groupby("set", sort=False)}
        found = [_of_choices(name, train, rows) for name, rows in sets.items()]
        found = [pair for pair in found if pair]
    elif pd.api.types.is_integer_dtype(train["label"]):
        found = [_of_labels(task, train["label"], test)]
    else:
        found = []
    return {method: [pair[method] for pair in found] for method in ("majority", "random") if found}


def _of_labels(task: Task, train: pd.Series, test: pd.DataFrame) -> dict[str, Scores]:
    given = train.mode().iloc[0]
    items = pd.DataFrame({"idx": test["idx"], "answer": test["label"], "prediction": given})
    names = task.label_names if isinstance(task, TextTask) else test.attrs.get("class_names", ())
    classes = len(names) or train.nunique()
    return _scores(task.name, items, np.full(len(items), 1 / classes))


def _of_choices(name: str, train: pd.DataFrame, test: pd.DataFrame) -> dict[str, Scores]:
    """Answers are compared by their place among the choices, as their words may differ.

    Training rows of LLM-Adapters do not say their set: those with the same choices count. Where
    there is none of them, the test part's own most frequent place is given.
    """
    if not test["choices"].map(len).all():
        return {}
    place = _places(test)
    of_set = train[train["set"] == name]
    known = _places(
        of_set
        if len(of_set)
        else train[train["choices"].map(_spelling).isin(set(test["choices"].map(_spelling)))]
    )
    given = known.mode().iloc[0] if len(known) else place.mode().iloc[0]
    items = pd.DataFrame({"idx": test["idx"], "answer": place, "prediction": given})
    return _scores(name, items, 1 / test["choices"].map(len).to_numpy())


def _places(rows: pd.DataFrame) -> pd.Series:
    return pd.Series(
        [list(c).index(a) for c, a in zip(rows["choices"], rows["answer"], strict=True)],
        index=rows.index,
        dtype="int64",
    )


def _spelling(choices: Iterable[str]) -> str:
    return "/".join(choices)


def _scores(name: str, items: pd.DataFrame, guessed: np.ndarray) -> dict[str, Scores]:
    items = items.assign(correct=items["answer"] == items["prediction"])
    majority = {"accuracy": float(items["correct"].mean())}
    random = {"accuracy": float(guessed.mean())}
    return {
        "majority": Scores(name, majority, "accuracy", items),
        "random": Scores(name, random, "accuracy", items.iloc[:0]),
    }
