"""CPU torch beside a CUDA torchvision."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from coto.compat import extended

ROOT = Path(__file__).resolve().parents[1]


def python(code: str, *arguments: Path) -> str:
    """Run code with this environment's packages, but with none of its start-up files (-S)."""
    command = [sys.executable, "-S", "-c", f"import sys\n{code}", *arguments]
    path = os.pathsep.join([str(ROOT), str(Path(torch.__file__).parents[1])])
    environment = {**os.environ, "PYTHONPATH": path}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_after_import_coto_torchvision_and_what_needs_it_import():
    code = """
import coto
import torchvision, torch
boxes = torch.tensor([[0., 0., 2., 2.], [1., 1., 3., 3.]])
print(round(float(torchvision.ops.box_iou(boxes, boxes)[0, 1]), 4))
import peft, transformers
"""
    assert python(code) == "0.1429"


@pytest.mark.parametrize("first", ["import torch, transformers", ""])
def test_the_callback_is_imported_before_or_after_transformers(first: str):
    code = f"{first}\nfrom coto import CoToCallback\nfrom transformers import Trainer\nprint('yes')"
    assert python(code) == "yes"


def test_the_hook_is_lazy_and_import_coto_is_cheap():
    code = """
before = set(sys.modules)
import coto
coto.compat.install()
print(sum(getattr(finder, '__module__', '') == 'coto.compat' for finder in sys.meta_path))
print(*{name.partition('.')[0] for name in set(sys.modules) - before} - sys.stdlib_module_names)
"""
    assert python(code).splitlines() == ["1", "coto"]


def test_an_entry_goes_before_a_search_path(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("PYTHONPATH", raising=False)
    assert extended("/here") == "/here"
    monkeypatch.setenv("PYTHONPATH", f"/theirs{os.pathsep}{os.pathsep}/here")
    assert extended("/here") == f"/here{os.pathsep}/theirs"
    monkeypatch.setenv("OTHER", "/bin")
    assert extended("/here", "OTHER") == f"/here{os.pathsep}/bin"


def fake_torchvision(folder: Path, extension: Path) -> Path:
    package = folder / "torchvision"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    shutil.copy(extension, package / "_C.so")
    return folder


# Every case in a fork of its own: one import of torch for all.
DECLARED = """
import os, torch, coto
for folder in sys.argv[1:]:
    if not os.fork():
        sys.path.insert(0, folder)
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
