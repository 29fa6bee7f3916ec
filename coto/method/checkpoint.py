"""Find the checkpoint that a killed training can go on from."""

import json
import zipfile
from pathlib import Path

_REQUIRED = ("trainer_state.json", "optimizer.pt", "scheduler.pt")
_WEIGHTS = ("adapter_model.safetensors", "model.safetensors", "model.safetensors.index.json")


def last_complete_checkpoint(directory: str | Path) -> str | None:
    """Return the newest complete ``checkpoint-N`` of a Trainer's output directory, None if none.

    The Trainer does not save atomically, and its own ``get_last_checkpoint`` takes the directory
    with the highest number, be it empty. Here a checkpoint counts if the trainer's state (which is
    written last) is whole and belongs to step N, if optimizer, scheduler, random state and weights
    are there, and if none of these files is cut off. Knows the layout of one process and of
    DistributedDataParallel, not those of FSDP and DeepSpeed.
    """
    candidates = []
    for path in Path(directory).glob("checkpoint-*"):
        number = path.name.removeprefix("checkpoint-")
        if number.isdigit() and path.is_dir():
            candidates.append((int(number), path))
    for step, path in sorted(candidates, reverse=True):
        if _is_complete(path, step):
            return str(path)
    return None


def _is_complete(checkpoint: Path, step: int) -> bool:
    if not all((checkpoint / name).is_file() for name in _REQUIRED):
        return False
    if not any((checkpoint / name).is_file() for name in _WEIGHTS):
        return False
    if not any(checkpoint.glob("rng_state*.pth")):
        return False
    try:
        state = json.loads((checkpoint / "trainer_state.json").read_bytes())
    except ValueError:
        return False
    if not isinstance(state, dict) or state.get("global_step") != step:
        return False
    saved_by_torch = [*checkpoint.glob("*.pt"), *checkpoint.glob("*.pth")]
    # torch writes zip files, whose directory is at the end: a cut-off one is not recognised
    return all(zipfile.is_zipfile(path) for path in saved_by_torch) and all(
        _is_whole_safetensors(path) for path in checkpoint.glob("*.safetensors")
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
