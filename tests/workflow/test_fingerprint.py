"""Code fingerprints: what changes them, on small packages and on this one."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from coto import registry
from coto.workflow import fingerprint as module
from coto.workflow.fingerprint import fingerprint, reached, registrations

Files = Mapping[str, str]

JOB = '''"""A job."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from torch import nn

from coto import helpers
from coto.base import Base, marked
from coto.names import ENTRIES
from coto.shared import reexported
from coto.types import Hint

if TYPE_CHECKING:
    from coto.unused import Other

LIMIT: int = 3
"""What the limit is."""
WEIGHTS = {"a": 1}
WEIGHTS["b"] = 2


@marked("job", needs=("x",))
def run(rows: Hint, limit: int = LIMIT) -> "Other":
    """Run it."""
    from coto.inside import inner

    total: int = sum(helpers.double(row) for row in rows)  # of all rows
    return Result(inner(total), reexported, WEIGHTS, ENTRIES)


class Result(Base):
    """What comes out."""

    first: int = 0

    def mean(self):
        """Its mean."""
        return np.mean(self.first)


def apart():
    return nn.Linear(1, 1)


UNUSED = 1
'''
FILES: Files = {
    "coto/__init__.py": "",
    "coto/job.py": JOB,
    "coto/helpers.py": (
        "from coto.deep import factor as f\n"
        "def double(x):\n    return f() * x\n"
        "def unused():\n    return 1\n"
    ),
    "coto/deep.py": "def factor():\n    return 2\n\ndef other():\n    return 3\n",
    "coto/base.py": (
        "class Base:\n    x = 1\ndef marked(name, needs):\n    return lambda function: function\n"
    ),
    "coto/names.py": (
        "from coto.registry import Registry\n"
        "ENTRIES: Registry[int] = Registry('entry')\n"
        "def make():\n    return 1\n"
        "ENTRIES.add(make())\n"
    ),
    "coto/shared/__init__.py": "from coto.shared.original import value as reexported\n",
    "coto/shared/original.py": "value = 1\n",
    "coto/inside.py": "def inner(x):\n    return x\n",
    "coto/types.py": "class Hint:\n    x = 1\n",
    "coto/unused.py": "class Other:\n    x = 1\n",
    "envs/constraints.txt": "# Pins.\nnumpy==2.0\ntorch==2.6\nscikit-learn==1.5\n",
}


@pytest.fixture
def use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Files], Path]]:
    """Make files the package that fingerprints are taken of."""
    numbers = iter(range(1000))

    def write(files: Files) -> Path:
        root = tmp_path / str(next(numbers))
        for name, text in files.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text)
        monkeypatch.setattr(registry, "PACKAGE", root / "coto")
        forget()
        return root

    monkeypatch.chdir(tmp_path)  # where nothing is kept for the next process
    yield write
    forget()


def forget() -> None:
    module._graph.cache_clear()
    module._kept.cache_clear()


def edited(files: Files, name: str, old: str, new: str) -> Files:
    assert old in files[name]
    return {**files, name: files[name].replace(old, new)}


SAME = {
    "a comment": ("coto/job.py", "of all rows", "of every row"),
    "formatting": ("coto/job.py", "reexported, WEIGHTS, ", "reexported,WEIGHTS,\n        "),
    "blank lines": ("coto/job.py", "LIMIT: int", "\n\n\nLIMIT: int"),
    "a docstring of a module": ("coto/job.py", "A job.", "The job."),
    "a docstring of a function": ("coto/job.py", '    """Run it."""\n', ""),
    "a docstring of a class": ("coto/job.py", "What comes out.", "What comes in."),
    "a docstring of a method": ("coto/job.py", "Its mean.", "The mean."),
    "a docstring of a constant": ("coto/job.py", '"""What the limit is."""\n', ""),
    "an annotation of a parameter": ("coto/job.py", "rows: Hint,", "rows,"),
    "an annotation of a result": ("coto/job.py", ' -> "Other"', ""),
    "an annotation of a constant": ("coto/job.py", "LIMIT: int", "LIMIT"),
    "an annotation of a variable": ("coto/job.py", "total: int", "total"),
    "an annotation of a field": ("coto/job.py", "first: int", "first: float"),
    "an import for type checkers": ("coto/job.py", "import Other", "import Others"),
    "an unused function's body": ("coto/job.py", "Linear(1, 1)", "Linear(1, 2)"),
    "an unused function": ("coto/job.py", "def apart", "def more():\n    return 1\n\n\ndef apart"),
    "an unused constant": ("coto/job.py", "UNUSED = 1", "UNUSED = 2"),
    "an unused import": ("coto/job.py", "from torch import nn", "from torch import nn as network"),
    "an unused function of a helper's module": ("coto/helpers.py", "return 1", "return 2"),
    "a class that only annotations name": ("coto/types.py", "x = 1", "x = 2"),
    "a new entry": ("coto/names.py", "ENTRIES.add(make())", "ENTRIES.add(make())\nENTRIES.add(2)"),
    "what makes an entry": ("coto/names.py", "return 1", "return 2"),
    "the pin of a package not used": ("envs/constraints.txt", "torch==2.6", "torch==2.7"),
}
CHANGED = {
    "a body": ("coto/job.py", "inner(total)", "inner(total + 1)"),
    "a constant": ("coto/job.py", "LIMIT: int = 3", "LIMIT: int = 4"),
    "an item of a constant": ("coto/job.py", 'WEIGHTS["b"] = 2', 'WEIGHTS["b"] = 3'),
    "a default argument": ("coto/job.py", "= LIMIT)", "= 5)"),
    "an argument of a decorator": ("coto/job.py", 'needs=("x",)', 'needs=("y",)'),
    "a decorator": ("coto/base.py", "lambda function: function", "lambda function: None"),
    "a base class": ("coto/base.py", "x = 1", "x = 2"),
    "a method": ("coto/job.py", "np.mean(", "np.median("),
    "a field": ("coto/job.py", "first: int = 0", "first: int = 1"),
    "that a field is one": ("coto/job.py", "first: int = 0", "first = 0"),
    "a helper": ("coto/helpers.py", "* x", "+ x"),
    "a helper's helper": ("coto/deep.py", "return 2", "return 4"),
    "which function a name means": ("coto/helpers.py", "factor as f", "other as f"),
    "a re-exported constant": ("coto/shared/original.py", "1", "2"),
    "a function that a function imports": ("coto/inside.py", "return x", "return -x"),
    "which name of another package is meant": (
        "coto/job.py",
        "import numpy as",
        "import numpy.ma as",
    ),
    "the pin of a package": ("envs/constraints.txt", "numpy==2.0", "numpy==2.1"),
}


@pytest.mark.parametrize("edit", SAME.values(), ids=SAME)
def test_nothing_that_a_job_uses_is_the_same(use, edit):
    use(FILES)
    before = fingerprint("coto.job:run")
    use(edited(FILES, *edit))
    assert fingerprint("coto.job:run") == before


@pytest.mark.parametrize("edit", CHANGED.values(), ids=CHANGED)
def test_what_a_job_uses_changes_it(use, edit):
    use(FILES)
    before = fingerprint("coto.job:run")
    use(edited(FILES, *edit))
    assert fingerprint("coto.job:run") != before


def test_all_that_is_reached(use):
    use(FILES)
    assert reached("coto.job:run") == (
        "coto.base:Base",
        "coto.base:marked",
        "coto.deep:factor",
        "coto.helpers:double",
        "coto.inside:inner",
        "coto.job:LIMIT",
        "coto.job:Result",
        "coto.job:WEIGHTS",
        "coto.job:run",
        "coto.names:ENTRIES",
        "coto.shared.original:value",
        "package:numpy",
    )


def reached_from(use: Callable[[Files], Path], job: str, **more: str) -> set[str]:
    """What ``run`` of a module reaches, given the module and others by name."""
    files = {"coto/__init__.py": "", "coto/job.py": job, "coto/pack/__init__.py": ""}
    use({**files, **{f"coto/{name.replace('__', '/')}.py": text for name, text in more.items()}})
    return set(reached("coto.job:run")) - {"coto.job:run"}


@pytest.mark.parametrize(
    "body",
    [
        "def run(name):\n    return name",
        "def run(*name):\n    return name",
        "def run():\n    name = 1\n    return name",
        "def run():\n    for name in (): print(name)",
        "def run():\n    with open('x') as name: print(name)",
        "def run():\n    try: pass\n    except ValueError as name: print(name)",
        "def run():\n    import json as name\n    return name",
        "def run(x):\n    match x:\n        case [name, *_]: return name",
        "def run(x):\n    if name := x: return name",
        "def run():\n    def name(): pass\n    return name()",
        "def run(name):\n    def inner(): return name\n    return inner",
        "def run():\n    return [name for name in ()]",
        "def run():\n    return {k: name for k, name in ()}",
        "def run():\n    return lambda name: name",
        "class run:\n    def method(self, name): return name",
        "def run(x):\n    return x.name",
        "def run():\n    return dict(name=1)",
        "class run:\n    name: int = 1",
    ],
)
def test_a_local_name_hides_the_global_one(use, body):
    assert reached_from(use, f"name = 1\n{body}\n") == set()


@pytest.mark.parametrize(
    "body",
    [
        "def run():\n    global name\n    name = name + 1",
        "def run():\n    global name\n    name += 1",
        "def run():\n    return [name for name in name]",
        "def run():\n    [name for name in ()]\n    return name",
        "def run():\n    return lambda x=name: x",
        "def run(name=name):\n    return name",
        "class run:\n    name = name",
        "class run:\n    name = 1\n    def method(self): return name",
        "class run:\n    def name(self): return name",
        "def run():\n    def inner(): return name\n    return inner",
        "def run():\n    def inner():\n        name = 1\n    return name",
        "def run():\n    return f'{name}'",
        "def run(x):\n    match x:\n        case 1 if name: return 2",
    ],
)
def test_the_global_name_is_found(use, body):
    assert reached_from(use, f"name = 1\n{body}\n") == {"coto.job:name"}


@pytest.mark.parametrize(
    "job",
    [
        "from coto.pack.tool import act\ndef run(): act()",
        "from coto.pack.tool import act as do\ndef run(): do()",
        "from coto.pack import tool\ndef run(): tool.act()",
        "import coto.pack.tool\ndef run(): coto.pack.tool.act()",
        "import coto.pack.tool as t\ndef run(): t.act()",
        "from coto import pack\ndef run(): pack.tool.act()",
        "from .pack.tool import act\ndef run(): act()",
        "from .pack import tool\ndef run(): tool.act()",
        "from . import pack\ndef run(): pack.tool.act()",
        "def run():\n    from coto.pack import tool\n    tool.act.other()",
        "def run():\n    from coto.pack import tool\n    def inner(): tool.act()\n    inner()",
        "def run():\n    import coto.pack.tool\n    coto.pack.tool.act()",
        "class run:\n    from coto.pack import tool\n    act = tool.act",
        "try:\n    from coto.pack.tool import act\nexcept ImportError: pass\ndef run(): act()",
    ],
)
def test_every_way_to_import(use, job):
    tool = "def act(): pass\ndef other(): pass\n"
    assert reached_from(use, job, pack__tool=tool) == {"coto.pack.tool:act"}


def test_a_module_that_a_package_imports_from_itself(use):
    package = "from coto.pack import tool\nfrom . import other\n"
    more = {"pack__tool": "def act(): pass", "pack__other": "X = 1", "pack____init__": package}
    job = "from coto import pack\nfrom coto.pack import other\ndef run(): pack.tool.act(other.X)"
    assert reached_from(use, job, **more) == {"coto.pack.tool:act", "coto.pack.other:X"}


def test_a_name_with_two_meanings_in_one_definition(use):
    methods = (
        "    def a(self):\n        from coto.a import name\n        name()\n",
        "    def b(self):\n        from coto.b import name\n        name()\n",
        "    def c(self): name()\n",
    )
    job = f"def name(): pass\nclass run:\n{''.join(methods)}"
    function = "def name(): pass\n"
    items = {"coto.job:name", "coto.a:name", "coto.b:name"}
    assert reached_from(use, job, a=function, b=function) == items


def test_modules_that_import_each_other(use):
    more = {"a": "from coto.b import g\ndef f(): g()", "b": "from coto.a import f\ndef g(): f()"}
    assert reached_from(use, "from coto.a import f\ndef run(): f()", **more) == {
        "coto.a:f",
        "coto.b:g",
    }


@pytest.mark.parametrize(
    "body", ["print(tool)", "Path(tool.__file__)", "tool.nothing()", "getattr(tool, 'act')()"]
)
def test_a_module_that_is_used_as_an_object_counts_as_a_whole(use, body):
    job = f"from coto import tool\nfrom pathlib import Path\ndef run(): {body}\n"
    assert reached_from(use, job, tool="def act(): pass") == {"coto.tool:*"}
    one = fingerprint("coto.job:run")
    reached_from(use, job, tool="def act(): pass\nif __name__ == '__main__':\n    act()")
    assert fingerprint("coto.job:run") != one
    helper = "from coto.job import limit\ndef act(): limit()"
    assert "coto.job:limit" in reached_from(use, f"{job}def limit(): pass", tool=helper)


@pytest.mark.parametrize(
    "block",
    [
        "if True:\n    {}\nelse:\n    other = 1",
        "try:\n    {}\nexcept OSError:\n    other = 1",
        "for i in range(3):\n    {}",
        "with open('x') as file:\n    {}",
        "name, other = 1, 2\n{}",
    ],
)
@pytest.mark.parametrize("statement", ["name = helper()", "name: int = helper()"])
def test_every_statement_for_a_name_counts(use, block, statement):
    job = f"def helper(): pass\nname = 0\n{block.format(statement)}\ndef run(): return name\n"
    assert reached_from(use, job) >= {"coto.job:name", "coto.job:helper"}


def test_an_added_statement_for_a_name_changes_it(use):
    job = "name = [1]\ndef run(): return name\n"
    use({"coto/__init__.py": "", "coto/job.py": job})
    one = fingerprint("coto.job:run")
    use({"coto/__init__.py": "", "coto/job.py": job + "name += [2]\n"})
    assert fingerprint("coto.job:run") != one


def test_a_shared_helper_changes_exactly_those_that_use_it(use):
    files = {
        "coto/__init__.py": "",
        "coto/tool.py": "def shared(): return 1\n",
        "coto/a.py": "from coto.tool import shared\ndef run(): shared()\n",
        "coto/b.py": "from coto import tool\ndef run(): tool.shared()\n",
        "coto/c.py": "def run(): pass\n",
    }
    use(files)
    before = {name: fingerprint(f"coto.{name}:run") for name in "abc"}
    use(edited(files, "coto/tool.py", "1", "2"))
    after = {name: fingerprint(f"coto.{name}:run") for name in "abc"}
    assert {name for name in "abc" if after[name] != before[name]} == {"a", "b"}


# --- registries -----------------------------------------------------------------------------------

CLAIMS = {
    "coto/__init__.py": "",
    "coto/claims.py": "from coto.registry import Registry\nCLAIMS = Registry('claim')\n",
    "coto/found/__init__.py": "",
    "coto/found/a.py": (
        "from coto.claims import CLAIMS\nMARGIN = 1\nOTHER = 1\nCLAIMS.add(MARGIN)\n"
        "for number in (1, 2):\n    CLAIMS.add(number)\n"
    ),
    "coto/found/b.py": "from coto import claims\nFIRST = claims.CLAIMS.add(5)\n",
    "coto/found/c.py": "from coto.claims import CLAIMS\n@CLAIMS.add\ndef claim(): pass\n",
    "coto/found/d.py": "from coto.claims import CLAIMS\ndef run(): return CLAIMS['x']\n",
    "coto/found/e.py": "SEEN = set()\nSEEN.add(1)\n",
}


def test_statements_that_add_to_a_registry(use):
    use(CLAIMS)
    assert registrations("CLAIMS", "coto.found") == (
        "coto.found.a:CLAIMS.add",
        "coto.found.b:CLAIMS.add",
        "coto.found.c:CLAIMS.add",
    )
    assert reached("coto.found.a:CLAIMS.add") == (
        "coto.claims:CLAIMS",
        "coto.found.a:CLAIMS.add",
        "coto.found.a:MARGIN",
        "coto.found.a:number",
    )


@pytest.mark.parametrize(
    ("old", "new", "changes"),
    [
        ("CLAIMS.add(MARGIN)", "CLAIMS.add(MARGIN)\nCLAIMS.add(7)", True),
        ("(1, 2)", "(1, 3)", True),
        ("MARGIN = 1", "MARGIN = 2", True),
        ("OTHER = 1", "OTHER = 2\n\nMORE = 3", False),
    ],
)
def test_only_a_claim_changes_the_claims(use, old, new, changes):
    use(CLAIMS)
    items = registrations("CLAIMS", "coto.found")
    claims, job = fingerprint(*items), fingerprint("coto.found.d:run")
    use(edited(CLAIMS, "coto/found/a.py", old, new))
    assert registrations("CLAIMS", "coto.found") == items
    assert (fingerprint(*items) != claims) == changes
    assert fingerprint("coto.found.d:run") == job


@pytest.mark.parametrize("made", ["Registry('x')", "Registry[int]('x')", "r.Catalogue('x')"])
def test_a_registry_counts_by_name(use, made):
    job = "import coto.registry as r\nfrom coto.registry import Registry\nX = {}\ndef run(): X\n"
    assert reached_from(use, job.format(made), registry="class Registry: pass") == {"coto.job:X"}


# --- files ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "job",
    [
        "def run(): return Path(__file__).parent / 'data' / 'a.csv'",
        "def run(): return Path(__file__).resolve().parent.joinpath('data', 'a.csv').read_text()",
        "def run(): return Path(__file__).parents[0] / 'data/a.csv'",
        "def run(): return Path(__file__).with_name('data') / 'a.csv'",
        "def run(): return files('coto') / 'data' / 'a.csv'",
        "def run(): return files('coto').joinpath('data').joinpath('a.csv')",
        "def run():\n    here = Path(__file__).parent\n    return here / 'data/a.csv'",
        "HERE = Path(__file__).parent\ndef run(): return HERE / 'data/a.csv'",
        "from coto.place import HERE\ndef run(): return HERE / 'data/a.csv'",
    ],
)
def test_files_that_code_spells_out(use, job):
    files = {
        "coto/__init__.py": "",
        "coto/job.py": f"from importlib.resources import files\nfrom pathlib import Path\n{job}\n",
        "coto/place.py": "from pathlib import Path\nHERE = Path(__file__).parent\n",
        "coto/data/a.csv": "1",
        "coto/data/b.csv": "1",
    }
    use(files)
    before = fingerprint("coto.job:run")
    assert {item for item in reached("coto.job:run") if "data" in item} == {"data:coto/data/a.csv"}
    use({**files, "coto/data/b.csv": "2"})
    assert fingerprint("coto.job:run") == before
    use({**files, "coto/data/a.csv": "2"})
    assert fingerprint("coto.job:run") != before


def test_a_folder_counts_with_all_its_files(use):
    job = "FOLDER = Path(__file__).parent / 'data'\ndef run(name): return FOLDER / name\n"
    files = {
        "coto/__init__.py": "",
        "coto/job.py": f"from pathlib import Path\n{job}",
        "coto/data/a.csv": "1",
        "coto/data/deep/b.csv": "1",
        "coto/data/code.py": "1",
    }
    use(files)
    before = fingerprint("coto.job:run")
    assert reached("coto.job:run") == (
        "coto.job:FOLDER",
        "coto.job:run",
        "data:coto/data/a.csv",
        "data:coto/data/deep/b.csv",
    )
    use({**files, "coto/data/deep/b.csv": "2"})
    assert fingerprint("coto.job:run") != before
    use({**files, "coto/data/c.csv": "2"})
    assert fingerprint("coto.job:run") != before
    use({**files, "coto/data/code.py": "2"})
    assert fingerprint("coto.job:run") == before


@pytest.mark.parametrize(
    "path",
    [
        "Path(__file__)",
        "Path(__file__).parent",
        "Path(__file__).parent / name",
        "Path(__file__).parent.parent / 'config.yaml'",
        "Path(__file__).parent / '../config.yaml'",
        "Path(__file__).parent / 'job.py'",
        "Path(__file__).parent / 'missing.csv'",
        "name / 'a.csv'",
        "1 / 2",
    ],
)
def test_what_is_no_file_of_the_package(use, path):
    job = f"from pathlib import Path\ndef run(name): return {path}\n"
    use(
        {
            "coto/__init__.py": "",
            "coto/job.py": job,
            "coto/a.csv": "1",
            "config.yaml": "1",
        }
    )
    assert reached("coto.job:run") == ("coto.job:run",)


def test_functions_that_yaml_names(use):
    files = {
        "coto/__init__.py": "",
        "coto/job.py": "from pathlib import Path\nX = Path(__file__).parent / 'tasks'\n",
        "coto/tasks/a.yaml": "read: !function coto.deep.read\nmetric: !function utils.metric\n",
        "coto/deep.py": "def read(): return helper()\ndef helper(): pass\ndef other(): pass\n",
    }
    use(files)
    assert reached("coto.job:X") == (
        "coto.deep:helper",
        "coto.deep:read",
        "coto.job:X",
        "data:coto/tasks/a.yaml",
    )


# --- packages -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("job", "package"),
    [
        ("import torch\ndef run(): torch.ones(1)", "torch"),
        ("from torch import nn\ndef run(): nn.Linear(1, 1)", "torch"),
        ("import torch.nn as nn\ndef run(): nn.Linear(1, 1)", "torch"),
        ("def run():\n    import torch", "torch"),
        ("def run():\n    from torch.nn import Linear", "torch"),
        ("from sklearn.svm import SVC\ndef run(): SVC()", "scikit-learn"),
        ("import lm_eval\ndef run(): lm_eval.tasks", "lm-eval"),
        ("import yaml\nX = yaml\ndef run(): X", "pyyaml"),
    ],
)
def test_packages_by_the_name_of_their_pin(use, job, package):
    assert f"package:{package}" in reached_from(use, job)


@pytest.mark.parametrize(
    "job",
    [
        "import json\ndef run(): json.dumps(1)",
        "import torch\ndef run(): pass",
        "import torch\ndef run(x: torch.Tensor) -> torch.Tensor: pass",
        "import torch\ndef run():\n    x: torch.Tensor",
    ],
)
def test_what_is_no_package_that_a_job_uses(use, job):
    assert reached_from(use, job) == set()


def test_a_pin_changes_what_imports_the_package(use):
    files = {
        "coto/__init__.py": "",
        "coto/a.py": "def run():\n    import sklearn\n",
        "coto/b.py": "import json\ndef run(): json.dumps(1)\n",
    }
    use({**files, "envs/constraints.txt": "scikit_learn==1.5\n"})
    one = fingerprint("coto.a:run"), fingerprint("coto.b:run")
    use({**files, "envs/constraints.txt": "scikit_learn==1.6\n"})
    assert fingerprint("coto.a:run") != one[0]
    assert fingerprint("coto.b:run") == one[1]


# --- plugins, and what may be asked for -----------------------------------------------------------


def test_plugins(use, tmp_path, monkeypatch):
    use(CLAIMS)
    monkeypatch.setattr(registry, "PLUGINS", [])
    plugin = tmp_path / "mine.py"
    plugin.write_text(
        "from pathlib import Path\n"
        "CLAIMS = set()\n"
        "def helper(): return Path(__file__).with_name('mine.csv')\n"
        "def run(): helper()\n"
        "CLAIMS.add(helper)\n"
    )
    (tmp_path / "mine.csv").write_text("1")
    registry.load_plugins([plugin])
    (data,) = (item for item in reached("coto_plugin_mine:run") if item.startswith("data:"))
    assert data.endswith("mine.csv")
    assert "coto_plugin_mine:helper" in reached("coto_plugin_mine:run")
    assert "coto_plugin_mine:CLAIMS.add" in registrations("CLAIMS", "coto.found")


def test_forms_of_code(use):
    use(FILES)
    assert fingerprint("coto.job:Result.mean") == fingerprint("coto.job:Result")
    assert reached("coto.shared:reexported") == ("coto.shared.original:value",)
    assert set(reached("coto.job:*")) > {"coto.job:*", "package:torch"}
    both = {*reached("coto.job:LIMIT"), *reached("coto.inside:inner")}
    assert set(reached("coto.inside:inner", "coto.job:LIMIT")) == both
    assert fingerprint("coto.inside:inner", "coto.job:LIMIT") == fingerprint(
        "coto.job:LIMIT", "coto.inside:inner"
    )


@pytest.mark.parametrize(
    "code", ["coto.nothing:run", "coto.job:nothing", "coto.job", "torch:ones", "coto.job:X.add"]
)
def test_unknown_code_is_refused(use, code):
    use(FILES)
    with pytest.raises(ValueError, match=code):
        fingerprint(code)


# --- this package ---------------------------------------------------------------------------------


def test_pruning_does_not_reach_merging():
    items = reached("coto.measurements.prune:run")
    assert {"coto.operators.keep:kept", "package:torch"} <= set(items)
    assert not [item for item in items if item.startswith("coto.operators.align:")]


def test_scoring_language_models_reaches_its_tasks():
    items = set(reached("coto.models.causal.model:LanguageModel"))
    assert {
        "data:coto/models/causal/lm_tasks/ranking.yaml",
        "coto.models.causal.answers:math_results",
        "package:lm-eval",
    } <= items
    assert not items & set(reached("coto.models.encoder:TextClassifier")) & {"package:lm-eval"}


def test_the_papers_numbers_count():
    assert "data:coto/report/paper_values.csv" in reached("coto.report.paper:paper_value")


def test_every_package_that_code_imports_has_a_pin():
    code = [f"{name}:*" for name in registry.modules_of("coto")]
    packages = {item for item in reached(*code) if item.startswith("package:")}
    lines = (registry.PACKAGE.parent / "envs" / "constraints.txt").read_text().splitlines()
    assert packages <= {f"package:{line.partition('==')[0]}" for line in lines}
