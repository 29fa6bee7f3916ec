"""The paper's numbers, from ``paper_values.csv``, with where each was read.

``quality``: ``exact`` is printed in a primary source, ``second-hand`` comes from notes on the
paper, ``digitised`` was measured on a picture. ``copied_from`` names the publication that the
authors took a baseline from instead of running it.
"""

import csv
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from coto.errors import CotoError
from coto.registry import expected_one_of

_KEY = ("experiment", "task", "method", "metric")


@dataclass(frozen=True)
class PaperValue:
    """A number of the paper, in its own unit: percent for accuracies, minutes for times."""

    value: float
    std: float | None
    source: str
    quality: str
    copied_from: str

    @property
    def provenance(self) -> str:
        """One phrase for tables: how it was obtained, where, and whether it was copied."""
        copied = f"; baseline copied from {self.copied_from}" if self.copied_from else ""
        return f"{self.quality}; {self.source}{copied}"


def paper_value(experiment: str, task: str, method: str, metric: str) -> PaperValue:
    """Look a number up; CotoError, where the paper has none, names what exists instead."""
    values = _rows()
    key = (experiment, task, method, metric)
    if key in values:
        return _parse(values[key])
    for depth, name in enumerate(_KEY):
        siblings = sorted({k[depth] for k in values if k[:depth] == key[:depth]})
        if key[depth] not in siblings:
            expected = expected_one_of(key[depth], siblings)
            raise CotoError(f"paper value: {name} {key[depth]!r} unknown, {expected}")
    raise AssertionError(f"unreachable: {key}")


def paper_values(experiment: str) -> dict[tuple[str, str, str], PaperValue]:
    """All numbers of an experiment by (task, method, metric); what is only a bound is left out."""
    values = {}
    for (name, *place), row in _rows().items():
        if name == experiment:
            with suppress(CotoError):
                values[place[0], place[1], place[2]] = _parse(row)
    if not values:
        raise CotoError(f"paper value: experiment {experiment!r} unknown")
    return values


@cache
def _rows() -> dict[tuple[str, ...], dict[str, str]]:
    text = files("coto.report").joinpath("paper_values.csv").read_text(encoding="utf-8")
    rows: dict[tuple[str, ...], dict[str, str]] = {}
    for row in csv.DictReader(text.splitlines()):
        key = tuple(row[name] for name in _KEY)
        if key in rows:
            raise CotoError(f"paper_values.csv: {key} stands there twice")
        rows[key] = row
    return rows


def _parse(row: dict[str, str]) -> PaperValue:
    try:
        value = _number(row["value"])
    except ValueError as error:
        where = ", ".join(row[name] for name in _KEY)
        raise CotoError(f"paper value: {where} is only known as {row['value']!r}") from error
    std = _number(row["std"]) if row["std"] else None
    return PaperValue(value, std, row["source"], row["quality"], row["copied_from"])


def _number(text: str) -> float:
    """A decimal, or a wall-clock time ``h:mm`` in minutes."""
    hours, colon, minutes = text.partition(":")
    return 60.0 * int(hours) + int(minutes) if colon else float(text)


PAPER_NAMES = {"lora": "LoRA", "dora": "DoRA", "hira": "HiRA", "rslora": "rsLoRA"}


@dataclass(frozen=True)
class Reported:
    """What a claim quotes: baseline and CoTo, or one number.

    ``kind`` is of the tasks that they were measured on: text, language or image; ``is_effect`` says
    that the one number is what CoTo adds.
    """

    label: str
    experiment: str
    task: str
    metric: str
    coto: str
    baseline: str | None = None
    kind: str = ""
    is_effect: bool = False

    @property
    def effect(self) -> float | None:
        """CoTo minus baseline in the paper's unit; None where it gives one of both only."""
        coto = paper_value(self.experiment, self.task, self.coto, self.metric).value
        if self.baseline is not None:
            return coto - paper_value(self.experiment, self.task, self.baseline, self.metric).value
        return coto if self.is_effect else None

    def text(self) -> str:
        """The numbers with how they were obtained and whether the baseline was copied."""
        coto = paper_value(self.experiment, self.task, self.coto, self.metric)
        if self.baseline is None:
            return f"{self.label}: {coto.value:g} ({coto.provenance})"
        base = paper_value(self.experiment, self.task, self.baseline, self.metric)
        copied = f" (copied from {base.copied_from})" if base.copied_from else ""
        return f"{self.label}: {base.value:g}{copied} → {coto.value:g} ({coto.provenance})"


def glue(method: str, lr: str) -> Reported:
    """A row pair of the GLUE merging table at one of its learning rates."""
    label, experiment = f"six GLUE tasks, DeBERTa-v3-base, lr {lr}", f"glue_merge_deberta_v3_lr{lr}"
    metric, coto = "accuracy(%) GLUE dev", f"{method} +CoTo"
    return Reported(label, experiment, "Average", metric, coto, method, "text")


def vision(metric: str) -> tuple[Reported, ...]:
    """Few-shot CLIP results of the comparison of strategies."""
    names = "CoTo", "Vanilla LoRA", "image"
    return tuple(
        Reported(f"{task}, ViT-B/16", "vision_strategies", task, metric, *names)
        for task in ("DTD", "UCF101")
    )
