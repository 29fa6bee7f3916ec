"""CPU torch beside a CUDA torchvision."""

import shutil
import subprocess
import sys
from pathlib import Path

import torch


def python(code: str, *path: Path) -> str:
    lines = ["import sys", *(f"sys.path.insert(0, {str(p)!r})" for p in path), code]
    done = subprocess.run([sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_torchvision_and_what_needs_it_import():
    code = """
import coto.compat; coto.compat.install()
import torchvision, torch
boxes = torch.tensor([[0., 0., 2., 2.], [1., 1., 3., 3.]])
print(round(float(torchvision.ops.box_iou(boxes, boxes)[0, 1]), 4))
import peft, transformers
"""
    assert python(code) == "0.1429"


def test_the_hook_is_lazy():
    code = """
import coto.compat; coto.compat.install(); coto.compat.install()
print('torch' in sys.modules, sum('Torchvision' in type(f).__name__ for f in sys.meta_path))
"""
    assert python(code) == "False 1"


def fake_torchvision(folder: Path, extension: Path | None) -> Path:
    package = folder / "torchvision"
    package.mkdir()
    (package / "__init__.py").touch()
    if extension:
        shutil.copy(extension, package / "_C.so")
    return folder


DECLARED = """
import coto.compat; coto.compat.install()
import torch, torchvision
print(hasattr(torch.ops.torchvision, 'nms'))
"""


def test_a_matching_pair_is_left_alone(tmp_path):
    # Any library that loads stands for a torchvision built for this torch.
    loads = next(Path(torch.__file__).parent.glob("lib/libshm.so"))
    assert python(DECLARED, fake_torchvision(tmp_path, loads)) == "False"


def test_operators_that_do_not_load_are_declared(tmp_path):
    (tmp_path / "broken.so").write_bytes(b"not a library")
    assert python(DECLARED, fake_torchvision(tmp_path, tmp_path / "broken.so")) == "True"
