"""The laptop's language task: three sets of questions made from the VADER corpora.

Rows have ``set``, ``instruction``, ``choices``, ``answer`` and ``idx``. In every part the place of
the right answer among the choices is exactly balanced, whatever the limit, and rows of one article
or snippet are in one part.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from math import log2
from typing import Any

import pandas as pd

from coto.tasks.language import COLUMNS, LanguageTask
from coto.tasks.splits import by_hash, by_length, normalise, share, split_of
from coto.tasks.task import SPLITS, Sources
from coto.tasks.text import vader

Reader = Callable[[str], pd.DataFrame]
"""Gives a corpus by name, see :func:`coto.tasks.text.vader.read_corpus`."""
Record = dict[str, Any]


def questions(task: LanguageTask, sources: Sources) -> dict[str, pd.DataFrame]:
    """Rows of the sets of :data:`MAKERS` that the task has.

    A limit of ``validation`` and ``test`` is per evaluation set; of ``train``, all sets together:
    they take turns.
    """
    assert sources.corpora is not None
    read = partial(vader.read_corpus, sources.corpora)
    return divided({name: MAKERS[name](read) for name in task.sets}, sources.limits)


def divided(
    made: Mapping[str, pd.DataFrame], limits: Mapping[str, int | None]
) -> dict[str, pd.DataFrame]:
    """Questions by evaluation set, as the functions of :data:`MAKERS` give them, by part."""
    parts: dict[str, list[pd.DataFrame]] = {split: [] for split in SPLITS}
    for name, questions in made.items():
        rows = questions.sort_values(["instruction", "answer"], kind="stable")
        rows = rows.drop_duplicates("instruction").assign(set=name)
        split_at = rows["unit"].map(split_of)
        for split in SPLITS:
            parts[split].append(_balanced(rows[split_at == split]))
    # Training mixes the sets evenly, so that a limit takes as many of each.
    smallest = min(len(part) for part in parts["train"])
    train = pd.concat([part.iloc[:smallest] for part in parts["train"]])
    train = train.sort_values(["idx", "set"], kind="stable", ignore_index=True)
    frames = {"train": train.assign(idx=range(len(train))).iloc[: limits["train"]]}
    for split in ("validation", "test"):
        frames[split] = pd.concat([part.iloc[: limits[split]] for part in parts[split]])
    return {split: frames[split][COLUMNS].reset_index(drop=True) for split in SPLITS}


def _balanced(questions: pd.DataFrame) -> pd.DataFrame:
    """Questions in the order of their content's hash, the right answer first in every other one."""
    ordered = by_hash(questions, "instruction")
    if ordered["choices"].map(tuple).nunique() == 1:  # yes or no: take turns among the rows
        turns = ordered.groupby("answer").cumcount()
        fewest = ordered["answer"].value_counts().min()
        ordered = ordered.assign(turn=turns)[turns < fewest].sort_values(["turn", "answer"])
    else:
        pairs = zip(ordered["choices"], ordered["answer"], strict=True)
        ordered["choices"] = [
            sorted(choices, key=lambda choice: (choice != answer) == (place % 2 == 0))
            for place, (choices, answer) in enumerate(pairs)
        ]
    return ordered.assign(idx=range(len(ordered)))


# Words of a snippet, and of the next one, in next-sentence: a CPU pays for every token.
SENTENCE_WORDS = (6, 22)


def next_sentence(read: Reader) -> pd.DataFrame:
    """Which of two snippets goes on: one question per snippet of news or products with a next one.

    Like every function of :data:`MAKERS` it gives ``instruction``, ``choices`` (the right one
    first, where they differ between questions), ``answer`` and ``unit``, here the article.
    """
    rows: list[Record] = []
    for corpus in ("news", "products"):
        snippets = vader.snippets_of(read(corpus), min_words=1)
        article = snippets.groupby("unit", sort=False)
        # A snippet in two articles is in neither, and what is after the gap does not follow.
        follows = article["number"].shift(-1) == snippets["number"] + 1
        pairs = snippets.assign(next=article["text"].shift(-1))[follows]
        for column in ("text", "next"):
            pairs = pairs[pairs[column].str.split().map(len).between(*SENTENCE_WORDS)]
        for _, part in pairs.groupby(pairs["unit"].map(split_of)):
            # Two neighbours in length, of different articles, lend each other their continuation.
            neighbours = by_length(part, "next")[["text", "next", "unit"]].to_dict("records")
            rows += [
                _question(own["text"], own["next"], other["next"], own["unit"])
                for own, other in _couples(neighbours, lambda a, b: a["unit"] != b["unit"])
            ]
    return pd.DataFrame(rows)


def _question(instruction: str, answer: str, other: str, unit: str) -> Record:
    choices = [answer, other]
    return {"instruction": instruction, "choices": choices, "answer": answer, "unit": unit}


def _couples(
    waiting: list[Any], fit: Callable[[Record, Record], bool]
) -> Iterator[tuple[Record, Record]]:
    """Each row with the first later one that fits and is still alone, and that one with it."""
    while waiting:
        first = waiting.pop(0)
        place = next((i for i, row in enumerate(waiting) if fit(first, row)), None)
        if place is not None:
            second = waiting.pop(place)
            yield first, second
            yield second, first


REVIEW_WORDS = 22
MIN_RATING = 1.0  # mean of people's ratings from -4 to 4; nearer to neutral, people disagree
# Of four wordings, the one by which SmolLM2-135M tells reviews apart best before it is trained.
ASKED = "Movie review: {}\nDid the reviewer like the movie? Answer:"


def sentiment_question(read: Reader) -> pd.DataFrame:
    """Whether a review is positive: one question per snippet, which is the unit."""
    rows = read("movies")
    # A few snippets were rated twice: which copy counts must not depend on the file's order.
    rows = rows.sort_values(["text", "rating"], kind="stable").drop_duplicates("text")
    rows = rows[rows["rating"].abs() >= MIN_RATING]
    rows = rows[rows["text"].str.split().map(len) <= REVIEW_WORDS]
    asked = pd.DataFrame({"instruction": rows["text"].map(ASKED.format), "unit": rows["text"]})
    asked["choices"] = [["yes", "no"]] * len(rows)
    asked["answer"] = (rows["rating"] > 0).map({True: "yes", False: "no"})
    return asked


GAP_WORDS = (8, 22)  # of a snippet that a word is taken of
_PLAIN_WORD = re.compile(r"[a-z]{4,}")  # no name, and no mark at it
_WORDS = re.compile(r"[^\W\d_]+")
BLANK = "___"
# Words before the gap that the question ends with, so that the word goes on from them. SmolLM2-135M
# then knows 0.88 of the words before it is trained, and 0.59 if asked for "the word at ___".
REPEATED = 3


def word_choice(read: Reader) -> pd.DataFrame:
    """Which of two words stood in a gap: one question per snippet, which is the unit."""
    texts = read("movies")["text"].drop_duplicates()
    texts = texts[texts.str.split().map(len).between(*GAP_WORDS)]
    counts = Counter(word for text in texts for word in normalise(text).split())
    blanked = [found for text in sorted(texts) if (found := _blank(text, counts)) is not None]
    rows = pd.DataFrame(blanked).sort_values("order", kind="stable")
    return pd.DataFrame(
        _question(own["question"], own["word"], other["word"], own["unit"])
        for _, group in rows.groupby(["split", "band", "length"], sort=True)
        for own, other in _couples(
            group.to_dict("records"),
            lambda a, b: a["word"] not in b["spoken"] and b["word"] not in a["spoken"],
        )
    )


def _blank(text: str, counts: Counter[str]) -> Record | None:
    """The snippet without one word that is neither rare nor everywhere."""
    words, spoken = text.split(), _WORDS.findall(text.casefold())
    once = [word for word in words if 2 <= counts[word] <= 100 and spoken.count(word) == 1]
    usable = set(filter(_PLAIN_WORD.fullmatch, once))
    places = [place for place, word in enumerate(words) if place and word in usable]
    if not places:
        return None
    place = places[int(share("blank", text) * len(places))]
    word, before = words[place], words[max(place - REPEATED, 0) : place]
    gap = [*words[:place], BLANK, *words[place + 1 :]]
    return {
        "question": f"{' '.join(gap)}\nAnswer: {' '.join(before)}",
        "word": word,
        "spoken": spoken,
        "band": int(log2(counts[word])),
        "length": min(len(word), 9) // 2,
        "split": split_of(text),
        "unit": text,
        "order": share("pair", text),
    }


MAKERS: dict[str, Callable[[Reader], pd.DataFrame]] = {
    "next-sentence": next_sentence,
    "sentiment-question": sentiment_question,
    "word-choice": word_choice,
}
"""Evaluation set -> the function that makes its questions."""
