"""Which of the paper's numbers stand beside which claim."""

from dataclasses import dataclass

from coto.report.paper import paper_value

PAPER_NAMES = {"lora": "LoRA", "dora": "DoRA", "hira": "HiRA", "rslora": "rsLoRA"}


@dataclass(frozen=True)
class Reported:
    """Two numbers of the paper, baseline and CoTo; one where the paper gives the difference.

    ``kind`` is of the tasks that they were measured on: text, language or image.
    """

    label: str
    experiment: str
    task: str
    metric: str
    coto: str
    baseline: str | None = None
    kind: str = ""

    def text(self) -> str:
        """The numbers with how they were obtained and whether the baseline was copied."""
        coto = paper_value(self.experiment, self.task, self.coto, self.metric)
        if self.baseline is None:
            return f"{self.label}: {coto.value:g} ({coto.provenance})"
        base = paper_value(self.experiment, self.task, self.baseline, self.metric)
        copied = f" (copied from {base.copied_from})" if base.copied_from else ""
        return f"{self.label}: {base.value:g}{copied} → {coto.value:g} ({coto.provenance})"


def single_task(adapter: str) -> tuple[Reported, ...]:
    """Single-task averages of an adapter kind."""
    name = PAPER_NAMES[adapter]
    percent, mean, three = "accuracy(%)", "Average", "lora dora hira"
    found = []
    if adapter == "lora":
        found.append(glue("Task LoRA", "5e-4"))
        found.append(glue("Task LoRA", "1e-3"))
    for kind, label, experiment, task, adapters in (
        ("image", "vision, 11 sets, ViT-B/16", "vision_11_datasets_vitb16_r2", mean, three),
        ("language", "commonsense, LLaMA-3-8B", "commonsense8_llama3_8b_r32", mean, three),
        ("language", "commonsense, LLaMA-2-7B", "commonsense8_llama2_7b_r32", mean, "lora"),
        ("language", "GSM8K, LLaMA-2-7B", "math_gsm8k_llama2_7b_r8", "GSM8K", f"{three} rslora"),
    ):
        if adapter in adapters.split():
            found.append(Reported(label, experiment, task, percent, f"{name}-CoTo", name, kind))
    return tuple(found)


def glue(method: str, lr: str) -> Reported:
    """A row pair of the GLUE merging table at one of its learning rates."""
    return Reported(
        f"six GLUE tasks, DeBERTa-v3-base, lr {lr}",
        f"glue_merge_deberta_v3_lr{lr}",
        "Average",
        "accuracy(%) GLUE dev",
        f"{method} +CoTo",
        method,
        "text",
    )


def multi_task(on_glue: str, on_llama: str) -> tuple[Reported, ...]:
    """Multi-task merging by one operator, as its GLUE and its LLaMA table name it."""
    nine = Reported(
        "nine tasks, LLaMA-2-7B",
        "multitask_merge_llama2_7b_9tasks",
        "Average",
        "accuracy(%)",
        f"{on_llama} +CoTo",
        on_llama,
        "language",
    )
    return (glue(on_glue, "5e-4"), glue(on_glue, "1e-3"), nine)


def vision(metric: str) -> tuple[Reported, ...]:
    """Few-shot CLIP results of the comparison of strategies."""
    return tuple(
        Reported(
            *(f"{task}, ViT-B/16", "vision_strategies", task, metric),
            *("CoTo", "Vanilla LoRA", "image"),
        )
        for task in ("DTD", "UCF101")
    )


def rivals(metric: str) -> tuple[Reported, ...]:
    """Few-shot CLIP results of the other strategies, each beside CoTo's."""
    return tuple(
        Reported(f"{task}, {rival}", "vision_strategies", task, metric, "CoTo", rival, "image")
        for task in ("DTD", "UCF101")
        for rival in ("Dropout", "Progressive Dropout", "Stochastic Depth for LoRA")
    )


HALF_WAY = Reported(
    "commonsense at λ = 0.5",
    "lmc_commonsense_lambda0.5",
    "Average",
    "accuracy(%)",
    "LoRA-CoTo",
    "LoRA",
    "language",
)
EVERY_OTHER = Reported(
    "11 image sets, every other layer",
    "clip11_pruning",
    "Average:everyother",
    "accuracy(%)",
    "LoRA-CoTo",
    "LoRA",
    "image",
)
