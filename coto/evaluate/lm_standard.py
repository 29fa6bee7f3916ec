"""lm-eval's own versions of the commonsense tasks, for comparison with other people's numbers.

Their prompts and items differ from LLM-Adapters': BoolQ comes with its passage, WinoGrande is
scored by the ends of its sentences. Nothing of them enters a claim.
"""

import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lm_eval
import pandas as pd
import yaml
from lm_eval.tasks import TaskManager
from torch import nn

from coto.backbones.causal import Causal
from coto.errors import CotoError
from coto.evaluate.lm import Scorer
from coto.evaluate.lm_score import Evaluation, quiet, run_lm_eval
from coto.workbench.base import Scores

_FOLDER = Path(lm_eval.__file__).parent / "tasks"
# Task -> its file in lm-eval.
STANDARD = {
    "boolq": "super_glue/boolq/default.yaml",
    "piqa": "piqa/piqa.yaml",
    "social_iqa": "siqa/siqa.yaml",
    "hellaswag": "hellaswag/hellaswag.yaml",
    "winogrande": "winogrande/default.yaml",
    "arc_easy": "arc/arc_easy.yaml",
    "arc_challenge": "arc/arc_challenge.yaml",
    "openbookqa": "openbookqa/openbookqa.yaml",
}


def check_standard(tasks: Sequence[str], mirror: str | None) -> None:
    """Refuse unknown tasks and, with a mirror, tasks whose data it lacks.

    Raises:
        CotoError: naming the task and where its data were looked for.
    """
    for task in tasks:
        if task not in STANDARD:
            raise CotoError(f"standard = {task!r}: expected some of {', '.join(STANDARD)}")
        folder = _data(task, mirror)
        if folder is not None and not Path(folder).is_dir():
            raise CotoError(f"standard = {task!r}: no data at {folder!r}; mirror or download them")


def score_standard(
    model: nn.Module,
    causal: Causal,
    tasks: Sequence[str],
    evaluation: Evaluation,
    mirror: str | None,
) -> list[Scores]:
    """Accuracy (``acc``) and length-normalised accuracy (``acc_norm``) as lm-eval defines them.

    Args:
        model: the model, with or without an adapter.
        causal: its tokenizer.
        tasks: keys of :data:`STANDARD`.
        evaluation: batches.
        mirror: folder that holds the data sets under their hub names; None is the hub.

    Raises:
        CotoError: if the data of a task cannot be had.
    """
    with quiet(), tempfile.TemporaryDirectory() as folder:
        scorer = Scorer(model, causal, evaluation.batch_tokens, beams=1, new_tokens=0)
        for task in tasks:
            derived: dict[str, Any] = {"include": str(_FOLDER / STANDARD[task]), "task": task}
            if (data := _data(task, mirror)) is not None:
                # A cache of datasets forgets from which mirror it is: use none.
                derived |= {"dataset_path": data, "dataset_kwargs": {"cache_dir": f"{folder}/rows"}}
            (Path(folder) / f"{task}.yaml").write_text(yaml.safe_dump(derived))
        # The index of lm-eval's thousands of other tasks would take seconds.
        manager = TaskManager(include_path=folder, include_defaults=False)
        try:
            results = run_lm_eval(scorer, list(tasks), manager)
        except (OSError, ValueError) as error:
            reason = str(error).splitlines()[0]
            place = mirror or "the hub"
            raise CotoError(f"standard = {list(tasks)}: no data from {place} ({reason})") from error
    return [_scores(task, results, scorer) for task in tasks]


def _data(task: str, mirror: str | None) -> str | None:
    """Folder of a task's data in the mirror."""
    if mirror is None:
        return None
    (path,) = re.findall(r"^dataset_path: *(\S+)", (_FOLDER / STANDARD[task]).read_text(), re.M)
    return str(Path(mirror).expanduser() / path)


def _scores(task: str, results: dict[str, Any], scorer: Scorer) -> Scores:
    found = {key.partition(",")[0]: value for key, value in results["results"][task].items()}
    samples = results["samples"][task]
    items = pd.DataFrame(
        {
            "idx": [sample["doc_id"] for sample in samples],
            "answer": [str(sample["target"]) for sample in samples],
            "prediction": [str(_ranked(sample)) for sample in samples],
            "correct": [sample["acc"] == 1 for sample in samples],
            "protocol": "standard",
            "truncated": [
                any(argument[0] in scorer.cut for argument in _arguments(sample))
                for sample in samples
            ],
        }
    )
    return Scores(
        task,
        {metric: float(found[metric]) for metric in ("acc", "acc_norm") if metric in found},
        "acc",
        items,
        collapsed=len(items) > 1 and items["prediction"].nunique() == 1,
        truncated=int(items["truncated"].sum()),
    )


def _ranked(sample: dict[str, Any]) -> int:
    found = [likelihood for likelihood, _ in sample["filtered_resps"]]
    return max(range(len(found)), key=found.__getitem__)


def _arguments(sample: dict[str, Any]) -> list[Any]:
    given = sample["arguments"]
    return list(given.values()) if isinstance(given, dict) else list(given)
