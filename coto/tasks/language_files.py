"""Language tasks of LLM-Adapters' JSON files, and MetaMathQA with GSM8K.

Files are read below a mirror, or fetched: LLM-Adapters' from its repository, the others from the
hub. Neither publishes a hash that could be checked: the sha256 of what was read is logged.
"""

import hashlib
import http.client
import json
import logging
import re
import urllib.request
from collections.abc import Callable, Mapping
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

import pandas as pd

from coto.errors import CotoError
from coto.record import atomic
from coto.tasks.language import METAMATH, LanguageTask
from coto.tasks.mirror import mirror_files
from coto.tasks.prompts import prompt, target
from coto.tasks.splits import SPLITS, digest, normalise, share

log = logging.getLogger(__name__)

COLUMNS = ["set", "instruction", "choices", "answer", "idx"]
_LLM_ADAPTERS = "https://raw.githubusercontent.com/AGI-Edgerunners/LLM-Adapters/main/"
_HUB = "https://huggingface.co/datasets/"
# LLM-Adapters holds out 120 of 170,420 rows: too few to choose a learning rate on. A tenth, as in
# text classification, would shorten its three epochs.
VALIDATION_SHARE = 0.01
# LoRA-Pro takes the first 100,000 GSM items of MetaMathQA to train and the next 10,000 to look at.
MATH_TRAIN, MATH_VALIDATION = 100_000, 10_000
# It leaves out items of 512 tokens of LLaMA-2 and more. Rows are made without a tokenizer: words,
# digits and marks are counted, which are hardly more than its tokens. What is longer and was not
# found so is cut, and counted, in training.
MATH_TOKENS = 512
_TOKEN = re.compile(r"\d|[^\W\d_]+|\S")

# What the candidate answers of an item are, from how it says that they are spelled.
_CHOICES = re.compile(r"Answer format:\s*(\S+)\s*$")


def load(
    task: LanguageTask,
    *,
    corpora: Path | None,
    mirror: Path | None,
    limits: Mapping[str, int | None],
    cache: Path | None,
) -> dict[str, pd.DataFrame]:
    """Rows by split, ``set``, ``instruction``, ``choices``, ``answer`` and ``idx``.

    Validation rows are cut from the training rows by the hash of their content, and rows are in
    the order of that hash; MetaMathQA's are in the file's order, as LoRA-Pro takes them. No item is
    dropped, as the original drops none: those that occur twice, or in training and test, are
    counted in the log.

    Args:
        task: The task.
        corpora: Not read.
        mirror: Folder laid out as the hub; None downloads the files.
        limits: Most rows per split, None for all; a smaller limit gives a subset. Of ``test``, per
            evaluation set.
        cache: Where downloads stay.

    Raises:
        CotoError: a file that is absent, an item that is malformed; both are named.
    """
    files = _located(task, mirror, cache)
    tests = [
        _read(path, name, _solution if name == "gsm8k" else _item)
        for name, path in zip(task.sets, files[1:], strict=True)
    ]
    if task.training_file == METAMATH:
        training = _metamath(files[0])
        # Of a shorter file the same share.
        cut = min(MATH_TRAIN, len(training) * MATH_TRAIN // (MATH_TRAIN + MATH_VALIDATION))
        parts = {"train": training.iloc[:cut], "validation": training.iloc[cut:]}
    else:
        training = _in_order(_read(files[0], "", _item))
        # Which of the sets a training item is of is not said: its form stands for it.
        training["set"] = training["choices"].map(lambda choices: choices[0].rstrip("0123456789"))
        held = training["instruction"].map(lambda text: share("split", text)) < VALIDATION_SHARE
        parts = {"train": training[~held], "validation": training[held]}
    _tell_overlap(task.name, training, tests)
    test = [_in_order(rows).iloc[: limits["test"]] for rows in tests]
    frames = {split: part.iloc[: limits[split]] for split, part in parts.items()}
    frames["test"] = pd.concat(test)
    for split, frame in frames.items():
        if frame.empty:
            raise CotoError(f"task {task.name}: no row is left in {split}")
    return {split: frames[split][COLUMNS].reset_index(drop=True) for split in SPLITS}


def _located(task: LanguageTask, mirror: Path | None, cache: Path | None) -> list[Path]:
    if mirror is not None:
        return mirror_files(task, mirror)
    folder = (cache or Path(".cache")) / "files"
    return [_fetched(task.name, file, folder / file) for file in task.files]


def _fetched(name: str, file: str, path: Path) -> Path:
    """A file of the hub or of LLM-Adapters' repository, downloaded once."""
    if path.is_file():
        return path
    if file.startswith("LLM-Adapters/"):
        url = _LLM_ADAPTERS + file.removeprefix("LLM-Adapters/")
    else:
        owner, repository, rest = file.split("/", 2)
        url = f"{_HUB}{owner}/{repository}/resolve/main/{rest}"
    try:
        with urllib.request.urlopen(url, timeout=60) as response:
            content = response.read()
    except (OSError, http.client.HTTPException) as error:
        raise CotoError(
            f"task {name}: {url} cannot be downloaded ({error}); go online once, or give a mirror "
            f"that has {file} as data.mirror"
        ) from error
    with atomic(path) as temporary:
        temporary.write_bytes(content)
    return path


def _read(path: Path, name: str, parse: Callable[[Any, str], dict[str, Any]]) -> pd.DataFrame:
    """Items of one file; every one of them is checked."""
    items = _items(path)
    rows = [
        {"set": name, "idx": index} | parse(item, f"{path}: item {index}")
        for index, item in enumerate(items)
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def _items(path: Path) -> list[Any]:
    try:
        content = path.read_bytes()
        items = json.loads(content)
    except (OSError, ValueError) as error:
        raise CotoError(f"{path}: cannot be read as JSON ({error})") from None
    if not isinstance(items, list) or not items:
        found = "an empty one" if items == [] else type(items).__name__
        raise CotoError(f"{path}: expected a list of items, found {found}")
    log.info("%s: %d items, sha256 %s", path, len(items), hashlib.sha256(content).hexdigest())
    return items


def _text(item: Any, key: str, where: str) -> str:
    value = item.get(key) if isinstance(item, Mapping) else None
    if not isinstance(value, str) or not value.strip():
        raise CotoError(f"{where}: {key} = {repr(value)[:60]}: expected text")
    return value


def _item(item: Any, where: str) -> dict[str, Any]:
    """An item of LLM-Adapters: its candidates are spelled at the end of the instruction."""
    instruction, answer = _text(item, "instruction", where), _text(item, "answer", where)
    found = _CHOICES.search(instruction)
    if found is None:
        raise CotoError(f"{where}: instruction: expected it to end with 'Answer format: …/…'")
    choices = found[1].split("/")
    if len(set(choices)) < max(len(choices), 2) or "" in choices:
        raise CotoError(
            f"{where}: instruction: {found[1]!r} at its end: expected different answers"
        )
    if answer not in choices:
        raise CotoError(f"{where}: answer = {answer!r}: expected one of {', '.join(choices)}")
    if item.get("input"):  # the prompt has no place for it
        raise CotoError(f"{where}: input = {repr(item['input'])[:60]}: expected none")
    output = item.get("output") or answer
    if answer not in re.findall(r"\w+", str(output)):
        raise CotoError(
            f"{where}: output = {repr(output)[:60]}: expected it to name the answer, {answer}"
        )
    return {"instruction": instruction, "choices": choices, "answer": answer}


def _solution(item: Any, where: str) -> dict[str, Any]:
    """A problem of GSM8K in LLM-Adapters' file: the number is given GSM8K's own mark.

    The file has ``1080.0`` for GSM8K's ``1,080``: here it is ``1080``. Some of its problems lack
    the solution, which nothing but people reads.
    """
    number = _text(item, "answer", where)
    try:
        value = Decimal(number.replace(",", "").strip())
    except InvalidOperation:
        value = Decimal("nan")
    if not value.is_finite():
        raise CotoError(f"{where}: answer = {number[:60]!r}: expected a number")
    spelled = f"{value:f}"
    if "." in spelled:
        spelled = spelled.rstrip("0").rstrip(".")
    solution = f"{item.get('output') or ''}\n#### {spelled}".strip()
    return {
        "instruction": _text(item, "instruction", where),
        "choices": [],
        "answer": solution,
    }


def _metamath(path: Path) -> pd.DataFrame:
    """The GSM part of MetaMathQA in the file's order, solutions in full."""
    rows, longer = [], 0
    for index, item in enumerate(_items(path)):
        where = f"{path}: item {index}"
        if "GSM" not in _text(item, "type", where):
            continue
        question, solution = _text(item, "query", where), _text(item, "response", where)
        text = prompt(question, "metamath") + target(solution, "metamath")
        if sum(1 for _ in _TOKEN.finditer(text)) >= MATH_TOKENS:
            longer += 1
            continue
        rows.append(
            {"set": "metamath", "instruction": question, "choices": [], "answer": solution}
            | {"idx": index}
        )
        if len(rows) == MATH_TRAIN + MATH_VALIDATION:
            break
    if longer:
        log.info("%s: %d items of %d tokens or more are left out", path, longer, MATH_TOKENS)
    return pd.DataFrame(rows, columns=COLUMNS)


def _in_order(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows by the hash of what they ask, so that a smaller limit gives a subset."""
    keys = rows.assign(key=rows["instruction"].map(lambda text: digest("order", text)))
    keys = keys.sort_values(["key", "instruction", "answer", "idx"], kind="stable")
    return rows.loc[keys.index]


def _tell_overlap(name: str, training: pd.DataFrame, tests: list[pd.DataFrame]) -> None:
    """Say how many items are doubled, or known from training."""
    asked = training["instruction"].map(normalise)
    if doubled := int(asked.duplicated().sum()):
        log.warning(
            "%s: %d of %d training rows ask what one before them asks; all stay",
            name,
            doubled,
            len(training),
        )
    known = set(asked)
    for rows in tests:
        asked = rows["instruction"].map(normalise)
        seen, doubled = int(asked.isin(known).sum()), int(asked.duplicated().sum())
        if seen or doubled:
            log.warning(
                "%s: %d of %d test items are among the training rows, %d occur twice; all stay",
                rows["set"].iloc[0],
                seen,
                len(rows),
                doubled,
            )
