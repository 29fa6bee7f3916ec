"""Stage ``train``: one run, from the prepared rows to an adapter and its scores."""

import hashlib
import json
import logging
import shutil
import tempfile
from pathlib import Path

import pandas as pd
from filelock import FileLock

from coto import device, record
from coto.adapters.store import check_adapter
from coto.config import paths
from coto.config.axes import canonical
from coto.stages.job import Job, metric_rows, told, training_rows
from coto.training import add_adapter, fit

log = logging.getLogger(__name__)


def run(job: Job, adapter: Path, answers: Path, gradients: Path, out: Path) -> None:
    """Train and score one run.

    Args:
        job: settings of :meth:`coto.config.plan.Plan.train`.
        adapter: folder for the trained adapter, in PEFT's format.
        answers: what was answered to every test item, for tests that pair the items of two runs.
        gradients: record of the gradient norms per block over the training.
        out: the record.
    """
    settings, task = job.settings, job.task
    compute = device.resolve(settings["device"], settings["precision"])
    bench = job.bench(compute, settings["seed"])
    train = training_rows(job, settings["seed"])
    bench.for_task(task, train)
    data = bench.training_set(task, train)
    model = add_adapter(bench, settings, settings["seed"])
    workspace = _workspace(job)
    # Should this job's twin, orphaned by a killed workflow, still run, wait for it.
    with FileLock(workspace.with_suffix(".lock")):
        trained = fit(model, data, settings, compute, workspace)
        _save(trained.model, workspace / paths.SNAPSHOTS, adapter)
        shutil.rmtree(workspace, ignore_errors=True)
    names = ("suite", "adapter", "strategy", "lr", "seed")
    coordinates = {name: settings[name] for name in names}
    rows = []
    for split in ("validation", "test"):
        scores = bench.score(trained.model, task, job.rows(task.name, split))
        log.info("%s: %s", split, told(scores))
        rows += metric_rows(task, scores, **coordinates, split=split)
    with record.atomic(answers) as temporary:
        items = pd.concat([found.items.assign(task=found.task) for found in scores])
        items.to_parquet(temporary, index=False, compression="zstd")
    arm = {**coordinates, "trained_on": task.name, "task": task.name}
    record.write(gradients, "gradients", settings, [{**arm, **row} for row in trained.gradients])
    record.write(
        out, "train", settings, rows, compute.describe(job.threads), training=trained.summary
    )


def _workspace(job: Job) -> Path:
    """Folder for checkpoints, not among the outputs, which Snakemake deletes before a job."""
    key = hashlib.sha256(f"{canonical(job.settings)}{job.code}".encode()).hexdigest()[:16]
    workspace = job.root / ".checkpoints" / key
    workspace.mkdir(parents=True, exist_ok=True)
    (workspace / "settings.json").write_text(json.dumps(job.settings, indent=1))
    return workspace


def _save(model: object, snapshots: Path, adapter: Path) -> None:
    """Save the adapter under a temporary name, check it, then move it to its place."""
    adapter.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=adapter.parent, prefix=".adapter.") as temporary:
        saved = Path(temporary) / "adapter"
        model.save_pretrained(saved)  # type: ignore[attr-defined]
        (saved / "README.md").unlink(missing_ok=True)  # a model card without content
        check_adapter(saved)
        if snapshots.is_dir():
            shutil.copytree(snapshots, saved / paths.SNAPSHOTS)
        shutil.rmtree(adapter, ignore_errors=True)
        saved.rename(adapter)
