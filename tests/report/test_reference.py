"""README quotes the committed reference run, word for word."""

import pytest

from tools.reference import REFERENCE, ROOT, with_block


@pytest.mark.skipif(not (REFERENCE / "claims.json").is_file(), reason="no reference run is kept")
def test_readme_holds_the_numbers_of_the_reference_run() -> None:
    readme = (ROOT / "README.md").read_text()
    assert with_block(readme) == readme, "run `python -m tools.reference`"
