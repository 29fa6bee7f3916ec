"""Merging operators by name.

An operator is one entry here, naming the function that does it:
``function(adapters, weights, base, **settings) -> Merged``.
"""

from coto.errors import CotoError
from coto.operators.operator import Operator, expected

_TIES = {"keep": 0.2, "reduce": "mean", "scale": 1.0, "scope": "global"}

OPERATORS: dict[str, Operator] = {
    operator.name: operator
    for operator in (
        Operator(
            name="fusion",
            summary="mean of A and mean of B; the paper's linear fusion",
            space="factors",
            module="coto.operators.merge",
            function="merge_fusion",
        ),
        Operator(
            name="ensemble",
            summary="mean of ΔW, equal to the mean of the adapters' outputs",
            space="delta",
            module="coto.operators.merge",
            function="merge_ensemble",
            settings={"rank": None},
        ),
        Operator(
            name="lora-align",
            summary="fusion after each adapter's ranks are rotated to shrink its gap to ensemble",
            space="factors",
            module="coto.operators.align",
            function="merge_aligned",
            settings={"start": "identity", "iterations": 200},
        ),
        Operator(
            name="lora-lego",
            summary="ranks of all adapters clustered into k",
            space="factors",
            module="coto.operators.lego",
            function="merge_lego",
            settings={
                "k": None,
                "seed": 0,
                "parameter_reweighting": True,
                "output_reweighting": True,
                "units": "raw",
                "norm": "l2",
            },
        ),
        Operator(
            name="task-arithmetic",
            summary="λ times the sum of ΔW",
            space="delta",
            module="coto.operators.sparse",
            function="merge_task_arithmetic",
            settings={"scale": 0.3, "rank": None},
        ),
        Operator(
            name="ties",
            summary="ΔW trimmed to its largest entries, signs elected, agreeing entries merged",
            space="delta",
            module="coto.operators.sparse",
            function="merge_ties",
            settings={**_TIES, "rank": None},
        ),
        Operator(
            name="dare",
            summary="entries of ΔW dropped at random, the rest rescaled and added",
            space="delta",
            module="coto.operators.sparse",
            function="merge_dare",
            settings={
                **_TIES,
                "drop": 0.5,
                "seed": 0,
                "inner": "task-arithmetic",
                "scale": 0.3,
                "rank": None,
            },
        ),
        Operator(
            name="dare-ties",
            summary="entries of ΔW dropped at random, the rest rescaled and merged by TIES",
            space="delta",
            module="coto.operators.sparse",
            function="merge_dare",
            settings={**_TIES, "drop": 0.5, "seed": 0, "inner": "ties", "keep": 1.0, "rank": None},
        ),
        Operator(
            name="knots",
            summary="TIES of the coordinates of ΔW in a basis that the adapters share",
            space="delta",
            module="coto.operators.knots",
            function="merge_knots",
            settings={
                "inner": "ties",
                "keep": 0.2,
                "reduce": "mean",
                "scale": 1.0,
                "drop": 0.0,
                "seed": 0,
                "rank": None,
            },
        ),
    )
}


def operator(name: str) -> Operator:
    """The operator of that name.

    Raises:
        CotoError: if there is none.
    """
    if name not in OPERATORS:
        raise CotoError(f"merging operator {name!r}: {expected(name, OPERATORS)}")
    return OPERATORS[name]
