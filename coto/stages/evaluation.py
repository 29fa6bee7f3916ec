"""What the stages share that evaluate adapters changed after training."""

from collections.abc import Mapping

from torch import Tensor

from coto import device
from coto.backbones import encoder
from coto.evaluate.classify import Backbone, predict
from coto.evaluate.scoring import score
from coto.operators.adapter import Deltas
from coto.stages.job import Job
from coto.tasks.encode import Encoded, encode
from coto.tasks.registry import TASKS


class Evaluator:
    """One backbone, loaded once, that scores weight changes on the test rows of tasks."""

    def __init__(self, job: Job) -> None:
        settings = job.settings
        self.compute = device.resolve(settings["device"], settings["precision"])
        self._batch_tokens = settings["evaluation_batch_tokens"]
        self._backbones: dict[int, Backbone] = {}
        self._rows: dict[str, Encoded] = {}
        for task, max_length in settings["max_lengths"].items():
            labels = TASKS[task].num_labels
            if labels not in self._backbones:
                # The head is a placeholder: every adapter brings its own.
                base = encoder.load(
                    settings["backbone"], self.compute.device, num_labels=labels, seed=0
                )
                self._backbones[labels] = Backbone(base.model, self.compute)
                self._tokenizer = base.tokenizer
            self._rows[task] = encode(job.rows(task, "test"), self._tokenizer, max_length)

    def weights(self, modules: list[str]) -> dict[str, Tensor]:
        """Base weights W₀ of modules."""
        return next(iter(self._backbones.values())).weights(modules)

    def score(
        self, task: str, deltas: Deltas, heads: Mapping[str, Tensor]
    ) -> tuple[dict[str, float], int]:
        """Scores on a task's test rows with W₀ + ΔW and these heads, and the number of rows."""
        rows, backbone = self._rows[task], self._backbones[TASKS[task].num_labels]
        with backbone.changed(deltas, heads) as model:
            logits = predict(model, rows.inputs, self._tokenizer, self.compute, self._batch_tokens)
        return score(TASKS[task], logits, rows.labels), len(rows)
