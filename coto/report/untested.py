"""What the paper claims and no stage here measures, each with the reason."""

from coto.report.reported import Reported

# Statement, why there is no test, what the paper reports.
UNTESTED: dict[str, tuple[str, str, tuple[Reported, ...]]] = {
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
