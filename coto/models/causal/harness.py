"""lm-eval with a language model in memory, and lm-eval's own versions of the commonsense tasks."""

import io
import logging
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from typing import Any

import lm_eval
import numpy as np
import pandas as pd
import torch
import yaml
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from torch import Tensor, nn
from transformers import GenerationConfig

from coto.errors import CotoError
from coto.models.base import Scores, first_line
from coto.models.causal.likelihoods import Likelihoods, Result
from coto.models.causal.loading import Causal

Request = tuple[tuple[str, str], list[int], list[int]]
Sample = dict[str, Any]


class Scorer(HFLM):
    """A model, with or without an adapter, for lm-eval.

    lm-eval's own wrapper computes logits over the whole vocabulary at every token although it reads
    a few, rounds log-probabilities to the weights' precision, ends beam search by looking at the
    first beams only, and joins a prompt to its continuation by tokens that the two would not have
    together. This one does none of that.

    A batch has at most `batch_tokens` padded tokens; of generation with that many beams and new
    tokens, for its memory. With `kv_cache` what all texts begin with is computed once.
    """

    def __init__(
        self,
        model: nn.Module,
        causal: Causal,
        batch_tokens: int,
        beams: int,
        new_tokens: int,
        kv_cache: bool = True,
    ) -> None:
        fixed = {"backend": "causal", "max_length": causal.max_length, "batch_size": 1}
        super().__init__(model, tokenizer=causal.tokenizer, **fixed)
        self._causal, self._kv_cache = causal, kv_cache
        self._batch_tokens, self._beams, self._new_tokens = batch_tokens, beams, new_tokens
        self.cut: set[str] = set()
        """Prompts that were longer than the model may read."""

    def _encode_pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        (whole,), (asked,) = self._causal.encode_pairs([context], [continuation])
        return whole[:asked], whole[asked:]

    def tok_batch_encode(self, strings: list[str], **options: Any) -> tuple[Tensor, Tensor]:
        """Prompts for generation, padded on the left; the beginning of a long one is cut off."""
        if (limit := options.get("left_truncate_len")) is not None:
            lengths = map(len, self._causal.encode(list(strings)))
            self.cut |= {s for s, n in zip(strings, lengths, strict=True) if n > limit}
        return super().tok_batch_encode(strings, **options)

    def _loglikelihood_tokens(self, requests: Sequence[Request], **options: Any) -> list[Result]:
        """Log-likelihood of each continuation, and whether greedy decoding gives it."""
        pairs = [(prompt, continuation) for _, prompt, continuation in requests]
        asked = Likelihoods(self._causal, pairs, self._batch_tokens, self._kv_cache)
        self.cut |= {requests[number][0][0] for number in asked.cut}
        return asked.compute(self.model)

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """Texts of the model, in batches that hold as many tokens as those of ranking."""
        longest = max(map(len, self._causal.encode([request.args[0] for request in requests])))
        item = self._beams * (min(longest, self.max_length) + self._new_tokens)
        self.batch_size_per_gpu = max(1, self._batch_tokens // item)
        return super().generate_until(requests, disable_tqdm)

    def _model_generate(self, context: Tensor, max_length: int, **settings: Any) -> Tensor:
        """Generate until EOS; other stop strings are cut off the text afterwards."""
        tokenizer, mask = self._causal.tokenizer, settings.pop("attention_mask")
        ends = self._causal.model.generation_config.eos_token_id
        ends = ends if isinstance(ends, list) else [] if ends is None else [ends]
        # A configuration of our own: a checkpoint's may ask for sampling or penalties.
        config = GenerationConfig(
            do_sample=False,
            num_beams=settings.get("num_beams", 1),
            max_new_tokens=max_length - context.shape[1],
            eos_token_id=sorted({tokenizer.eos_token_id, *ends}),
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=tokenizer.bos_token_id,
            use_cache=True,
        )
        inputs = {"input_ids": context, "attention_mask": mask}
        with torch.inference_mode():
            return self.model.generate(**inputs, generation_config=config)


def run_lm_eval(
    scorer: Scorer,
    tasks: Iterable[str],
    folder: Path,
    generation: Mapping[str, Any] | None = None,
    metadata: dict[str, Any] | None = None,
) -> dict[str, tuple[dict[str, Any], list[Sample]]]:
    """Metrics of tasks, without lm-eval's names of filters, and a record of every item, in order.

    This is what ``lm_eval.simple_evaluate`` does without its seeding of all random generators and
    its report on the machine, for which it runs pip: three seconds a call. Tasks are files of the
    folder: the index of lm-eval's thousands of other ones would take seconds as well.
    """
    manager = TaskManager(include_path=str(folder), include_defaults=False, metadata=metadata)
    loaded = manager.load(list(tasks))
    for task in loaded["tasks"].values():
        if generation is not None and task.get_config("output_type") == "generate_until":
            task.set_config(key="generation_kwargs", value=generation, update=True)
    results = lm_eval.evaluate(scorer, loaded, bootstrap_iters=0, log_samples=True)
    assert results is not None  # only other processes of a distributed evaluation get None
    return {
        task: (
            {key.partition(",")[0]: value for key, value in results["results"][task].items()},
            sorted(samples, key=lambda sample: sample["doc_id"]),
        )
        for task, samples in results["samples"].items()
    }


@contextmanager
def quiet() -> Iterator[None]:
    """Without lm-eval's progress bars, and its warnings on every call."""
    logger = logging.getLogger("lm_eval")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with redirect_stderr(io.StringIO()):
            yield
    finally:
        logger.setLevel(level)


_LM_EVAL = Path(lm_eval.__file__).parent / "tasks"
# Task -> its file in lm-eval. These are for comparison with other people's numbers, not for claims:
# items differ from LLM-Adapters'. BoolQ comes with its passage, WinoGrande is scored by the ends of
# its sentences.
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
    """Refuse, with CotoError, unknown tasks and, with a mirror, tasks whose data it lacks."""
    for task in tasks:
        if task not in STANDARD:
            raise CotoError(f"standard = {task!r}: expected some of {', '.join(STANDARD)}")
        if (folder := _data(task, mirror)) is not None and not Path(folder).is_dir():
            raise CotoError(f"standard = {task!r}: no data at {folder!r}; mirror or download them")


def score_standard(
    model: nn.Module, causal: Causal, tasks: Sequence[str], batch_tokens: int, mirror: str | None
) -> list[Scores]:
    """``acc`` and ``acc_norm`` of some :data:`STANDARD` tasks, as lm-eval defines them.

    `mirror` is a folder that holds the data sets under their hub names; None is the hub. Raises
    CotoError if the data of a task cannot be had.
    """
    with quiet(), tempfile.TemporaryDirectory() as folder:
        scorer = Scorer(model, causal, batch_tokens, beams=1, new_tokens=0)
        for task in tasks:
            derived: dict[str, Any] = {"include": str(_LM_EVAL / STANDARD[task]), "task": task}
            if (data := _data(task, mirror)) is not None:
                # A cache of datasets forgets from which mirror it is: use none.
                derived |= {"dataset_path": data, "dataset_kwargs": {"cache_dir": f"{folder}/rows"}}
            (Path(folder) / f"{task}.yaml").write_text(yaml.safe_dump(derived))
        try:
            results = run_lm_eval(scorer, tasks, Path(folder))
        except (OSError, ValueError) as error:
            place = f"{mirror or 'the hub'} ({first_line(error)})"
            raise CotoError(f"standard = {list(tasks)}: no data from {place}") from error
    return [_scores(task, *results[task], scorer.cut) for task in tasks]


def _data(task: str, mirror: str | None) -> str | None:
    """Folder of a task's data in the mirror."""
    if mirror is None:
        return None
    (path,) = re.findall(r"^dataset_path: *(\S+)", (_LM_EVAL / STANDARD[task]).read_text(), re.M)
    return str(Path(mirror).expanduser() / path)


def _scores(task: str, found: dict[str, Any], samples: list[Sample], cut: set[str]) -> Scores:
    items = pd.DataFrame(
        {
            "idx": sample["doc_id"],
            "answer": str(sample["target"]),
            "prediction": str(np.argmax(likelihoods(sample))),
            "correct": sample["acc"] == 1,
            "protocol": "standard",
            "truncated": any(argument[0] in cut for argument in sample["arguments"]),
        }
        for sample in samples
    )
    return Scores(
        task,
        {metric: float(found[metric]) for metric in ("acc", "acc_norm") if metric in found},
        "acc",
        items,
        collapsed=len(items) > 1 and items["prediction"].nunique() == 1,
        truncated=int(items["truncated"].sum()),
    )


def likelihoods(sample: Sample) -> list[float]:
    """Log-likelihoods of an item's candidate answers, in nats."""
    return [likelihood for likelihood, _ in sample["filtered_resps"]]
