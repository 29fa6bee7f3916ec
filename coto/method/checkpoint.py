"""Find the checkpoint that a killed training can go on from."""

import json
import zipfile
from pathlib import Path

_REQUIRED = {"trainer_state.json", "optimizer.pt", "scheduler.pt"}
_WEIGHTS = {"adapter_model.safetensors", "model.safetensors", "model.safetensors.index.json"}


def last_complete_checkpoint(directory: str | Path) -> str | None:
    """Return the newest complete ``checkpoint-N`` of a Trainer's output directory, None if none.

    The Trainer does not save atomically. A checkpoint counts if the trainer's state (written last)
    is of step N, and optimizer, scheduler, random state and weights are there, none of them cut
    off. Knows the layout of one process and of DistributedDataParallel, not FSDP's or DeepSpeed's.
    """
    paths = (path for path in Path(directory).glob("checkpoint-*") if path.is_dir())
    numbers = ((path.name.removeprefix("checkpoint-"), path) for path in paths)
    steps = sorted(((int(n), path) for n, path in numbers if n.isdigit()), reverse=True)
    return next((str(path) for step, path in steps if _is_complete(path, step)), None)


def _is_complete(checkpoint: Path, step: int) -> bool:
    files = {path.name for path in checkpoint.iterdir() if path.is_file()}
    if not (files >= _REQUIRED and files & _WEIGHTS and any(checkpoint.glob("rng_state*.pth"))):
        return False
    try:
        state = json.loads((checkpoint / "trainer_state.json").read_bytes())
    except ValueError:
        return False
    # torch writes zip files, whose directory is at the end: a cut-off one is not recognised
    return (
        isinstance(state, dict)
        and state.get("global_step") == step
        and all(zipfile.is_zipfile(checkpoint / f) for f in files if f.endswith((".pt", ".pth")))
        and all(map(_is_whole_safetensors, checkpoint.glob("*.safetensors")))
    )


def _is_whole_safetensors(path: Path) -> bool:
    """Compare the file's length with what its header announces (8 bytes, header, data)."""
    with path.open("rb") as file:
        prefix = file.read(8)
        length = int.from_bytes(prefix, "little")
        if len(prefix) < 8 or length > path.stat().st_size:
            return False
        try:
            header = json.loads(file.read(length))
        except ValueError:
            return False
    ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
    return path.stat().st_size == 8 + length + max(ends, default=0)
