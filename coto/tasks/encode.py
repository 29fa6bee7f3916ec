"""Rows to token ids."""

from dataclasses import dataclass

import pandas as pd
from transformers.tokenization_utils_base import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Encoded:
    """Tokenised rows with their labels."""

    inputs: list[dict[str, list[int]]]
    labels: list[int] | list[float]
    truncated: int
    """Rows that were longer than the limit."""

    def __len__(self) -> int:
        return len(self.inputs)


def encode(frame: pd.DataFrame, tokenizer: PreTrainedTokenizerBase, max_length: int) -> Encoded:
    """Tokenise ``text`` and ``text_pair``, if there is one; longer rows are cut to `max_length`."""
    texts = [frame[column].tolist() for column in ("text", "text_pair") if column in frame]
    whole = tokenizer(*texts, truncation=True, max_length=max_length)
    untruncated = tokenizer(*texts, truncation=False, verbose=False)["input_ids"]
    columns = [name for name in tokenizer.model_input_names if name in whole]
    inputs = [
        {column: whole[column][i] for column in columns} for i in range(len(whole["input_ids"]))
    ]
    return Encoded(
        inputs=inputs,
        labels=frame["label"].tolist(),
        truncated=sum(len(ids) > max_length for ids in untruncated),
    )
