"""CPU torch beside a CUDA torchvision."""

import shutil
import subprocess
import sys
from pathlib import Path

import torch


def python(code: str, *arguments: Path) -> str:
    command = [sys.executable, "-c", f"import sys\n{code}", *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
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


def fake_torchvision(folder: Path, extension: Path) -> Path:
    package = folder / "torchvision"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    shutil.copy(extension, package / "_C.so")
    return folder


# Every case in a fork of its own: one import of torch for all.
DECLARED = """
import os, torch, coto.compat
for folder in sys.argv[1:]:
    if not os.fork():
        sys.path.insert(0, folder)
        coto.compat.install()
        import torchvision
        assert torchvision.__file__.startswith(folder)
        print(hasattr(torch.ops.torchvision, 'nms'), flush=True)
        os._exit(0)
    assert os.wait()[1] == 0
"""


def test_operators_are_declared_only_if_they_do_not_load(tmp_path):
    # Any library that loads stands for a torchvision built for this torch.
    loads = next(Path(torch.__file__).parent.glob("lib/libshm.so"))
    (tmp_path / "broken.so").write_bytes(b"not a library")
    matching = fake_torchvision(tmp_path / "matching", loads)
    broken = fake_torchvision(tmp_path / "broken", tmp_path / "broken.so")
    assert python(DECLARED, matching, broken).split() == ["False", "True"]
