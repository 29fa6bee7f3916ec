"""Claims about where CoTo's gains hold and what it beats: for suites of some kind only."""

from coto.report import quantities, reported
from coto.report.claim import POOLED, Claim, in_space, single_scores

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
            quantity=quantity,
            reported={"lora": reported.rivals(metric)},
            margin=margin,
            role=role,
            caution=_STRONGEST,
            optional="no suite of this run has another strategy; a study of strategies has its "
            "verdicts below its own table (results/studies)",
        )
        for name, test, table, quantity, metric, margin, role in (
            (
                "strategies",
                "Score half-way between two seeds (factors A and B averaged)",
                "interpolation",
                lambda f: quantities.against_strongest(
                    in_space(quantities.midpoints(f["interpolate"]), "fusion")
                ),
                "merging 1:1 acc(%)",
                1.0,
                "main",
            ),
            (
                "strategies-pruning",
                "Score with every other layer's adapters removed",
                "pruning",
                lambda f: quantities.against_strongest(quantities.every_other(f["prune"])),
                "pruning everyother acc(%)",
                1.0,
                "sensitivity",
            ),
            (
                "strategies-single",
                "Headline score on the test part",
                "single_task",
                lambda f: quantities.against_strongest(single_scores(f)),
                "generalization acc(%)",
                0.5,
                "sensitivity",
            ),
        )
    },
}
