"""What the paper claims and no stage here measures, each with the reason."""

from coto.report import reported
from coto.report.reported import Reported

# Statement, why there is no test, what the paper reports.
UNTESTED: dict[str, tuple[str, str, tuple[Reported, ...]]] = {
    "layer-contributions": (
        "Adapters contribute more evenly across layers (cooperative game, Shapley values).",
        "no stage estimates Shapley values yet",
        (
            Reported(
                "share of the highest 4 of 12 layers, plain LoRA, %",
                "shapley",
                "share of highest 4 of 12 layers",
                "percent",
                "LoRA",
            ),
            Reported(
                "deviation from balance, CoTo, points",
                "shapley",
                "deviation from balance",
                "percentage points (+/-)",
                "LoRA-CoTo",
            ),
        ),
    ),
    "dropout-stability": (
        "CoTo promotes layer-wise dropout stability (theory, and accuracy under random drops).",
        "no stage drops random subsets of layers yet; structured pruning is the nearest test",
        (),
    ),
    "unstructured-pruning": (
        "Robustness extends to unstructured pruning at growing sparsity.",
        "only structured pruning is run",
        (
            Reported(
                "gap at 50 % sparsity, points",
                "pruning_unstructured_50pct",
                "gap",
                "percentage points",
                "LoRA-CoTo minus LoRA",
            ),
        ),
    ),
    "lego-merging": (
        "The gain in merging also holds for LoRA-LEGO.",
        "no LoRA-LEGO operator yet",
        reported.multi_task("LoRA-LEGO", "LoRA-LEGO"),
    ),
    "image-generation": (
        "The gains hold for subject- and style-driven image generation.",
        "no image generation yet",
        (
            Reported(
                "FID, lower is better",
                "custom_image_generation",
                "Average",
                "FID(lower better)",
                "LoRA-CoTo",
                "LoRA",
            ),
        ),
    ),
}
