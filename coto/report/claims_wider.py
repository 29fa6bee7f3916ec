"""Claims about where CoTo's gains hold and what it beats: for suites of some kind only."""

from coto.report import quantities, reported
from coto.report.claim import POOLED, Claim, by_operator, single_scores

_SAME_RUNS = (
    "These are the runs of the claim single-task in such suites: no second piece of evidence."
)
_SMALL = "The backbone here is the suite's, not the paper's."
_STRONGEST = (
    "The strongest rival is chosen by the scores that are then compared, which is unfair to CoTo."
)

WIDER: dict[str, Claim] = {
    **{
        name: Claim(
            statement=statement,
            test="Headline score on the test part of each evaluation set, CoTo minus vanilla.",
            table="single_task",
            rows="kind == 'measured'",
            family="generalisation",
            quantity=single_scores,
            reported={POOLED: tuple(r for r in reported.single_task("lora") if r.kind == kind)},
            margin=0.5,
            needs="test scores of both arms",
            role="sensitivity",
            caution=f"{_SAME_RUNS} {_SMALL}",
            kind=kind,
            apart=False,
            optional=missing,
        )
        for name, kind, statement, missing in (
            (
                "language-models",
                "language",
                "The gains hold for commonsense reasoning and math with language models of 7 to 8 "
                "billion parameters.",
                "this run has no suite with a language model",
            ),
            (
                "vision",
                "image",
                "The gains hold for few-shot image classification with CLIP.",
                "this run has no suite of images",
            ),
        )
    },
    **{
        name: Claim(
            statement="CoTo beats dropout, progressive dropout and stochastic depth.",
            test=f"{test}, CoTo minus the strongest other strategy but vanilla.",
            table=table,
            rows=rows,
            family="rivals",
            quantity=quantity,
            reported={"lora": reported.rivals(metric)},
            margin=margin,
            role="main" if name == "strategies" else "sensitivity",
            caution=_STRONGEST,
            optional="no suite of this run has another strategy; a study of strategies has its "
            "verdicts below its own table (results/studies)",
        )
        for name, test, table, rows, quantity, metric, margin in (
            (
                "strategies",
                "Score half-way between two seeds (factors A and B averaged)",
                "interpolation",
                "operator == 'fusion' and quantity == 'score' and weight == 0.5",
                lambda f: quantities.against_strongest(
                    by_operator(quantities.midpoints(f["interpolate"]), "fusion")
                ),
                "merging 1:1 acc(%)",
                1.0,
            ),
            (
                "strategies-pruning",
                "Score with every other layer's adapters removed",
                "pruning",
                "keep in ('odd', 'even')",
                lambda f: quantities.against_strongest(quantities.every_other(f["prune"])),
                "pruning everyother acc(%)",
                1.0,
            ),
            (
                "strategies-single",
                "Headline score on the test part",
                "single_task",
                "kind == 'measured'",
                lambda f: quantities.against_strongest(single_scores(f)),
                "generalization acc(%)",
                0.5,
            ),
        )
    },
}
