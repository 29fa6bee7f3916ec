"""Rows of claims.json, made by hand."""

from typing import Any

from coto.findings.outcome.lines import OPEN, REFUTED, SUPPORTED


def result(claim: str, suite: str = "images", **different: Any) -> dict[str, Any]:
    """A row of claims.json."""
    row = {"claim": claim, "suite": suite, "adapter": "lora", "role": "main", "family": "pruning"}
    row |= {"verdict": OPEN, "reason": "a reason", "unit": "points", "direction": 1}
    row |= {
        "effect": 0.5,
        "low": -1.0,
        "high": 2.0,
        "margin": 1.0,
        "n_seeds": 3,
        "paper_effects": [],
    }
    return row | different


GAIN = {"verdict": SUPPORTED, "effect": 4.0, "low": 2.0, "high": 6.0}
HARM = {"verdict": REFUTED, "effect": -3.0, "low": -4.0, "high": -2.5}
EQUAL = {"verdict": REFUTED, "effect": 0.1, "low": -0.2, "high": 0.4}
