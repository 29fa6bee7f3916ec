"""Stage ``train``: one run, from the prepared rows to an adapter and its scores."""

import hashlib
import json
import logging
import shutil
import tempfile
from pathlib import Path

from filelock import FileLock

from coto import device, record
from coto.adapters.store import check_adapter
from coto.config.axes import canonical
from coto.evaluate.classify import predict
from coto.evaluate.scoring import is_collapsed, score
from coto.stages.job import Job, metric_rows, spelled
from coto.tasks.encode import encode
from coto.training import build_model, fit

log = logging.getLogger(__name__)


def run(job: Job, adapter: Path, out: Path) -> None:
    """Train and score one run.

    Args:
        job: settings of :meth:`coto.config.plan.Plan.train`.
        adapter: folder for the trained adapter, in PEFT's format.
        out: the record.
    """
    settings, task = job.settings, job.task
    compute = device.resolve(settings["device"], settings["precision"])
    model, base = build_model(settings, compute.device, task.num_labels, settings["seed"])
    encoded = {
        split: encode(job.rows(task.name, split), base.tokenizer, settings["train"]["max_length"])
        for split in ("train", "validation", "test")
    }
    workspace = _workspace(job)
    # Should this job's twin, orphaned by a killed workflow, still run, wait for it.
    with FileLock(workspace.with_suffix(".lock")):
        trained = fit(model, base, encoded["train"], settings, compute, workspace)
        _save(trained.model, adapter)
        shutil.rmtree(workspace, ignore_errors=True)
    coordinates = {
        name: settings[name] for name in ("suite", "task", "adapter", "strategy", "lr", "seed")
    }
    rows = []
    for split in ("validation", "test"):
        part = encoded[split]
        logits = predict(
            trained.model,
            part.inputs,
            base.tokenizer,
            compute,
            settings["evaluation_batch_tokens"],
        )
        flag = "collapsed" if not task.is_regression and is_collapsed(logits) else ""
        scores = score(task, logits, part.labels)
        log.info("%s: %s %s", split, spelled(scores), flag)
        rows += metric_rows(task, scores, len(part), **coordinates, split=split, flag=flag)
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


def _save(model: object, adapter: Path) -> None:
    """Save the adapter under a temporary name, check it, then move it to its place."""
    adapter.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=adapter.parent, prefix=".adapter.") as temporary:
        saved = Path(temporary) / "adapter"
        model.save_pretrained(saved)  # type: ignore[attr-defined]
        (saved / "README.md").unlink(missing_ok=True)  # a model card without content
        check_adapter(saved)
        shutil.rmtree(adapter, ignore_errors=True)
        saved.rename(adapter)
