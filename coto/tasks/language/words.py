"""Questions of one word or of two numbers that are answered yes or no, in one token.

All forms of a word are in one part, so that no answer can be known from another form of it; so are
both orders of two numbers. Answers are balanced in every part, whatever the limit.
"""

import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from coto.tasks.language import LanguageTask
from coto.tasks.language.offline import divided
from coto.tasks.splits import share
from coto.tasks.task import Sources
from coto.tasks.text import vader

_ANSWERS = {True: "yes", False: "no"}


def questions(task: LanguageTask, sources: Sources) -> dict[str, pd.DataFrame]:
    """Rows of the one evaluation set that such a task is, by part."""
    return divided({task.name: MAKERS[task.name](sources.corpora)}, sources.limits)


def stem(word: str) -> str:
    """What all forms of a word share: its first three letters, where y counts as i.

    Coarser than any stemmer, on purpose: *cry* and *cries*, *hate* and *hating* must not part.
    """
    return word[:3].replace("y", "i")


def _asked(question: str, words: "pd.Series[str]", right: "pd.Series[bool]") -> pd.DataFrame:
    rows = pd.DataFrame({"instruction": words.map(question.format), "unit": words.map(stem)})
    rows["choices"] = [["yes", "no"]] * len(rows)
    rows["answer"] = right.map(_ANSWERS)
    return rows


LEAST_RATING = 1.0  # of 4; words nearer to neutral are a matter of taste


def nice_word(archive: Path | None) -> pd.DataFrame:
    """Whether people like a word: its mean rating in VADER's lexicon is above zero.

    Words of at least four letters, without emoticons, numbers and names.
    """
    assert archive is not None
    rows = vader.read_lexicon(archive)
    rows = rows[rows["word"].str.fullmatch("[a-z]{4,}") & (rows["rating"].abs() >= LEAST_RATING)]
    return _asked("Word: {}\nIs it a nice word? Answer:", rows["word"], rows["rating"] > 0)


PAIRS = 6000
_LEAST, _NUMBERS = 100, 900


def larger_number(archive: Path | None) -> pd.DataFrame:
    """Whether the first of two numbers from 100 to 999 is larger: pairs, asked in both orders.

    A look at the first number alone is right in three cases of four.
    """

    def number(place: int, of: str) -> int:
        return _LEAST + int(share("number", str(place), of) * _NUMBERS)

    drawn = [(number(i, "first"), number(i, "second")) for i in range(PAIRS)]
    pairs = sorted({(min(two), max(two)) for two in drawn if two[0] != two[1]})
    rows = [
        {
            "instruction": f"Is {first} larger than {second}? Answer:",
            "unit": f"{low} {high}",
            "choices": ["yes", "no"],
            "answer": _ANSWERS[first > second],
        }
        for low, high in pairs
        for first, second in ((low, high), (high, low))
    ]
    return pd.DataFrame(rows)


_PLAIN_WORD = re.compile(r"\b[a-z]{5,10}\b")
OCCURRENCES = 2  # at least: a word that comes once may itself be misspelled


def spelling(archive: Path | None) -> pd.DataFrame:
    """Whether a word is spelled right: words of reviews and editorials, and each of them with two
    neighbouring letters swapped, never the first one, to what is no word of theirs.
    """
    assert archive is not None
    texts = pd.concat([vader.read_corpus(archive, corpus)["text"] for corpus in ("movies", "news")])
    counts = Counter(word for text in texts for word in _PLAIN_WORD.findall(text))
    rows = []
    for word in sorted(word for word, count in counts.items() if count >= OCCURRENCES):
        place = 1 + int(share("swap", word) * (len(word) - 2))
        wrong = word[:place] + word[place + 1] + word[place] + word[place + 2 :]
        if wrong != word and wrong not in counts:
            rows += [(word, True, stem(word)), (wrong, False, stem(word))]
    made = pd.DataFrame(rows, columns=["word", "right", "unit"])
    asked = _asked("Word: {}\nIs it spelled right? Answer:", made["word"], made["right"])
    # A swap in the first letters must not part a word from its own misspelling.
    return asked.assign(unit=made["unit"])


MAKERS: dict[str, Callable[[Path | None], pd.DataFrame]] = {
    "nice-word": nice_word,
    "larger-number": larger_number,
    "spelling": spelling,
}
"""Task -> the function that makes its questions."""
