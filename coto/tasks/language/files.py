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
from coto.tasks.hub import mirror_files
from coto.tasks.language import COLUMNS, LanguageTask, prompt, target
from coto.tasks.splits import by_hash, normalise, share
from coto.tasks.task import Sources

Frames = dict[str, pd.DataFrame]
log = logging.getLogger(__name__)

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


def commonsense(task: LanguageTask, sources: Sources) -> Frames:
    """Sets of LLM-Adapters, in the order of the hash of their content.

    Validation rows are cut from the training rows by that hash. No item is dropped, as the original
    drops none: those that occur twice, or in training and test, are counted in the log.
    CotoError names an absent file or a malformed item.
    """
    files = _located(task, sources)
    training = _in_order(_read(files[0], "", _item))
    # The file does not name the set of a training item: the form of its answers stands for it.
    training["set"] = training["choices"].map(lambda choices: choices[0].rstrip("0123456789"))
    held = training["instruction"].map(lambda text: share("split", text)) < VALIDATION_SHARE
    parts = {"train": training[~held], "validation": training[held]}
    sets = zip(task.sets, files[1:], strict=True)
    tests = {name: _read(path, name, _item) for name, path in sets}
    return _limited(task, parts, tests, sources)


def math(task: LanguageTask, sources: Sources) -> Frames:
    """MetaMathQA's GSM part in the file's order, as LoRA-Pro takes it, and GSM8K."""
    training_file, test_file = _located(task, sources)
    tests = {name: _read(test_file, name, _solution) for name in task.sets}
    training = _metamath(training_file)
    # Of a shorter file the same share.
    cut = min(MATH_TRAIN, len(training) * MATH_TRAIN // (MATH_TRAIN + MATH_VALIDATION))
    parts = {"train": training.iloc[:cut], "validation": training.iloc[cut:]}
    return _limited(task, parts, tests, sources)


def _limited(task: LanguageTask, parts: Frames, tests: Frames, sources: Sources) -> Frames:
    """Rows within the limits, which are per evaluation set in test; doubled items are logged."""
    asked = pd.concat(parts.values())["instruction"].map(normalise)
    if doubled := int(asked.duplicated().sum()):
        message = "%s: %d of %d training rows ask what one before them asks; all stay"
        log.warning(message, task.name, doubled, len(asked))
    known = set(asked)
    for name, rows in tests.items():
        asked = rows["instruction"].map(normalise)
        seen, doubled = int(asked.isin(known).sum()), int(asked.duplicated().sum())
        if seen or doubled:
            message = "%s: %d of %d test items are among the training rows, %d occur twice; "
            log.warning(message + "all stay", name, seen, len(rows), doubled)
    limits = sources.limits
    frames = {split: part.iloc[: limits[split]] for split, part in parts.items()}
    ordered = map(_in_order, tests.values())
    frames["test"] = pd.concat(rows.iloc[: limits["test"]] for rows in ordered)
    return {split: rows[COLUMNS].reset_index(drop=True) for split, rows in frames.items()}


def _in_order(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows by the hash of what they ask, so that a smaller limit gives a subset."""
    return by_hash(rows.sort_values(["instruction", "answer", "idx"]), "instruction")


def _located(task: LanguageTask, sources: Sources) -> list[Path]:
    """The task's files below the mirror, or else downloaded once."""
    if sources.mirror is not None:
        return mirror_files(task, sources.mirror)
    folder = (sources.cache or Path(".cache")) / "files"
    for file in task.files:
        if (folder / file).is_file():
            continue
        owner, repository, rest = file.split("/", 2)
        url = f"{_HUB}{owner}/{repository}/resolve/main/{rest}"
        if owner == "LLM-Adapters":
            url = _LLM_ADAPTERS + file.removeprefix("LLM-Adapters/")
        try:
            with urllib.request.urlopen(url, timeout=60) as response:
                content = response.read()
        except (OSError, http.client.HTTPException) as error:
            raise CotoError(
                f"task {task.name}: {url} cannot be downloaded ({error}); go online once, or give "
                f"a mirror that has {file} as data.mirror"
            ) from error
        with atomic(folder / file) as temporary:
            temporary.write_bytes(content)
    return [folder / file for file in task.files]


def _read(path: Path, name: str, parse: Callable[[Any, str], dict[str, Any]]) -> pd.DataFrame:
    """Items of one file; every one of them is checked."""
    rows = [
        {"set": name, "idx": index} | parse(item, f"{path}: item {index}")
        for index, item in enumerate(_items(path))
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
        value = Decimal(number.replace(",", "").strip()).normalize()
    except InvalidOperation:
        value = Decimal("nan")
    if not value.is_finite():
        raise CotoError(f"{where}: answer = {number[:60]!r}: expected a number")
    solution = f"{item.get('output') or ''}\n#### {value:f}".strip()
    return {"instruction": _text(item, "instruction", where), "choices": [], "answer": solution}


def _metamath(path: Path) -> pd.DataFrame:
    """The GSM part of MetaMathQA in the file's order, solutions in full."""
    rows: list[tuple[Any, ...]] = []
    longer = 0
    for index, item in enumerate(_items(path)):
        where = f"{path}: item {index}"
        if "GSM" not in _text(item, "type", where):
            continue
        question, solution = _text(item, "query", where), _text(item, "response", where)
        text = prompt(question, "metamath") + target(solution, "metamath")
        if len(_TOKEN.findall(text)) >= MATH_TOKENS:
            longer += 1
            continue
        rows.append(("metamath", question, [], solution, index))
        if len(rows) == MATH_TRAIN + MATH_VALIDATION:
            break
    if longer:
        log.info("%s: %d items of %d tokens or more are left out", path, longer, MATH_TOKENS)
    return pd.DataFrame(rows, columns=COLUMNS)
