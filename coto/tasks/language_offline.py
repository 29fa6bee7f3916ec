"""The laptop's language task: three sets of questions made from the VADER corpora.

Rows have ``set``, ``instruction``, ``choices``, ``answer`` and ``idx``. In every part the place of
the right answer among the choices is exactly balanced, whatever the limit, and rows of one article
or snippet are in one part.
"""

from collections.abc import Mapping
from functools import partial
from importlib import import_module
from pathlib import Path

import pandas as pd

from coto.errors import CotoError
from coto.tasks import vader
from coto.tasks.language import LanguageTask
from coto.tasks.offline import next_sentence, sentiment_question, word_choice
from coto.tasks.splits import SPLITS, digest, split_of

COLUMNS = ["set", "instruction", "choices", "answer", "idx"]
# Imported here so that a task's code fingerprint follows them.
_BUILDERS = (next_sentence, sentiment_question, word_choice)


def load(
    task: LanguageTask,
    *,
    corpora: Path | None,
    mirror: Path | None,
    limits: Mapping[str, int | None],
    cache: Path | None,
) -> dict[str, pd.DataFrame]:
    """Rows by split; a limit of ``validation`` and ``test`` is per evaluation set.

    Args:
        task: The task.
        corpora: The archive of :func:`coto.tasks.vader.fetch_sdist`.
        mirror: Not read.
        limits: Most rows per split, None for all; a smaller limit gives a subset. Of ``train``, all
            sets together: they take turns.
        cache: Not written.

    Raises:
        CotoError: Without the archive.
    """
    if corpora is None:
        raise CotoError(
            f"task {task.name}: needs the archive {vader.SDIST}, expected its path as corpora"
        )
    read = partial(vader.read_corpus, corpora)
    parts: dict[str, list[pd.DataFrame]] = {split: [] for split in SPLITS}
    for name, builder in zip(task.sets, task.builders, strict=True):
        questions = import_module(f"coto.tasks.offline.{builder}").build(read)
        questions = questions.sort_values(["instruction", "answer"], kind="stable")
        questions = questions.drop_duplicates("instruction").assign(set=name)
        split_at = questions["unit"].map(split_of)
        for split in SPLITS:
            parts[split].append(_balanced(questions[split_at == split]))
    # Training mixes the sets evenly, so that a limit takes as many of each.
    smallest = min(len(part) for part in parts["train"])
    train = pd.concat([part.iloc[:smallest] for part in parts["train"]])
    train = train.sort_values(["idx", "set"], kind="stable", ignore_index=True)
    frames = {"train": train.assign(idx=range(len(train))).iloc[: limits["train"]]}
    for split in ("validation", "test"):
        kept = [part.iloc[: limits[split]] for part in parts[split]]
        frames[split] = pd.concat(kept, ignore_index=True)
    return {split: frames[split][COLUMNS].reset_index(drop=True) for split in SPLITS}


def _balanced(questions: pd.DataFrame) -> pd.DataFrame:
    """Questions in the order of their content's hash, the right answer first in every other one."""
    ordered = questions.assign(key=questions["instruction"].map(partial(digest, "order")))
    ordered = ordered.sort_values("key", kind="stable")
    if ordered["choices"].map(tuple).nunique() == 1:  # yes or no: take turns among the rows
        turns = ordered.groupby("answer").cumcount()
        fewest = ordered["answer"].value_counts().min()
        ordered = ordered.assign(turn=turns)[turns < fewest].sort_values(["turn", "answer"])
    else:
        ordered["choices"] = [
            _placed(choices, answer, first=index % 2 == 0)
            for index, (choices, answer) in enumerate(
                zip(ordered["choices"], ordered["answer"], strict=True)
            )
        ]
    return ordered.assign(idx=range(len(ordered)))


def _placed(choices: list[str], answer: str, *, first: bool) -> list[str]:
    others = [choice for choice in choices if choice != answer]
    return [answer, *others] if first else [*others, answer]
