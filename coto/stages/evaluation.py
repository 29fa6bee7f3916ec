"""What the stages share that evaluate adapters changed after training."""

from collections.abc import Mapping

from torch import Tensor

from coto import device
from coto.operators.adapter import Deltas
from coto.stages.job import Job
from coto.tasks.registry import TASKS
from coto.workbench.base import Scores
from coto.workbench.changed import base_weights, changed


class Evaluator:
    """One backbone, loaded once, that scores weight changes on the test rows of tasks."""

    def __init__(self, job: Job) -> None:
        settings = job.settings
        self.compute = device.resolve(settings["device"], settings["precision"])
        self._bench = job.bench(self.compute)
        self._rows = {task: job.rows(task, "test") for task in settings["tasks"]}

    def weights(self, modules: list[str]) -> dict[str, Tensor]:
        """Base weights W₀ of modules."""
        return base_weights(self._bench.model, modules)

    def score(self, task: str, deltas: Deltas, heads: Mapping[str, Tensor]) -> list[Scores]:
        """Scores on a task's test rows with W₀ + ΔW and these heads, one per evaluation set."""
        entry, rows = TASKS[task], self._rows[task]
        self._bench.for_task(entry, rows)
        with changed(self._bench.model, deltas, heads) as model:
            return self._bench.score(model, entry, rows)
