import functools
import hashlib
import io
import os
import tarfile
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from coto.errors import CotoError
from coto.tasks.text import vader
from coto.tasks.text.vader import CORPORA, SDIST, fetch_sdist, read_corpus


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is all that pip may install from, as a user would configure it."""
    folder = tmp_path / "wheelhouse"
    folder.mkdir()
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def _source_distribution(path: Path, setup: str) -> None:
    with tarfile.open(path, "w:gz") as archive:
        member = tarfile.TarInfo(f"vaderSentiment-{vader.VERSION}/setup.py")
        member.size = len(setup.encode())
        archive.addfile(member, io.BytesIO(setup.encode()))


def test_fetching_follows_the_users_pip_configuration(
    sdist: Path, index: Path, tmp_path: Path
) -> None:
    (index / SDIST).write_bytes(sdist.read_bytes())
    fetched = fetch_sdist(tmp_path / "new" / "folder")
    assert fetched.read_bytes() == sdist.read_bytes()
    assert [path.name for path in fetched.parent.iterdir()] == [SDIST]  # nothing half-written


def test_a_good_copy_is_reused_and_a_broken_one_replaced(
    sdist: Path, index: Path, tmp_path: Path
) -> None:
    copy = tmp_path / SDIST
    copy.write_bytes(sdist.read_bytes())
    before = copy.stat().st_mtime_ns
    assert fetch_sdist(tmp_path) == copy  # the index is empty: it cannot have been asked
    assert copy.stat().st_mtime_ns == before
    copy.write_bytes(sdist.read_bytes()[:1000])
    (index / SDIST).write_bytes(sdist.read_bytes())
    assert fetch_sdist(tmp_path).read_bytes() == sdist.read_bytes()


def test_code_of_the_archive_is_never_executed(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    marker = tmp_path / "executed"
    _source_distribution(
        index / SDIST, f"open({str(marker)!r}, 'w')\nfrom setuptools import setup\n"
    )
    content = (index / SDIST).read_bytes()
    monkeypatch.setattr(vader, "SHA256", hashlib.sha256(content).hexdigest())
    assert fetch_sdist(tmp_path / "out").read_bytes() == content
    assert not marker.exists()


def test_another_hash_is_refused(index: Path, tmp_path: Path) -> None:
    _source_distribution(index / SDIST, "")
    with pytest.raises(CotoError, match=rf"{SDIST}.*another sha256.*{vader.SHA256}") as error:
        fetch_sdist(tmp_path / "out")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[str]:
    """Address of a package index: a web server of this test's own folder."""
    handler = functools.partial(SimpleHTTPRequestHandler, directory=tmp_path / "web")
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/simple"
        server.shutdown()


def test_a_configured_index_is_asked_after_one_that_cannot_be_reached(
    sdist: Path, index: Path, served: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / "web" / "simple" / "vadersentiment"
    page.mkdir(parents=True)
    (page / SDIST).write_bytes(sdist.read_bytes())
    (page / "index.html").write_text(f'<a href="{SDIST}#sha256={vader.SHA256}">{SDIST}</a>')
    (tmp_path / "pip.conf").write_text(
        f"[global]\nindex-url = http://127.0.0.1:9/simple\n[download]\nextra-index-url = {served}\n"
    )
    monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))
    monkeypatch.setenv("PIP_NO_INDEX", "0")
    monkeypatch.setenv("PIP_FIND_LINKS", f"/nowhere {index}")
    assert fetch_sdist(tmp_path / "out").read_bytes() == sdist.read_bytes()


def test_a_broken_pip_configuration_is_reported_in_one_line(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pip.conf").write_text("no section\n")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))
    with pytest.raises(CotoError, match=r"pip's configuration cannot be read \(.*pip\.conf"):
        fetch_sdist(tmp_path / "out")


def test_offline_gives_one_line_that_says_what_to_do(index: Path, tmp_path: Path) -> None:
    with pytest.raises(CotoError, match=r"no index that pip is configured for.*go online") as error:
        fetch_sdist(tmp_path / "out")
    assert "\n" not in str(error.value)


def test_corpora_are_read_whole(sdist: Path) -> None:
    sizes = {name: len(read_corpus(sdist, name)) for name in CORPORA}
    assert sizes == {"movies": 10605, "products": 3708, "tweets": 4200, "news": 5190}


@pytest.mark.parametrize("name", CORPORA)
def test_corpus_columns(sdist: Path, name: str) -> None:
    corpus = read_corpus(sdist, name)
    assert list(corpus.columns) == ["id", "source", "rating", "text"]
    assert corpus["id"].is_unique
    assert corpus["rating"].between(-4, 4).all()
    assert corpus["rating"].std() > 0.5
    assert (corpus["text"].str.strip() == corpus["text"]).all()
    assert not corpus["text"].str.contains(r"[\r\n\t]|&#?\w+;|\ufffd|Ã").any()
    sources = {"movies": 10605, "products": 300, "tweets": 4200, "news": 498}
    assert corpus["source"].nunique() == sources[name]


def test_accents_survive(sdist: Path) -> None:
    assert read_corpus(sdist, "movies")["text"].str.contains("clichés").any()
    assert read_corpus(sdist, "tweets")["text"].str.contains("español").any()


def test_reading_refuses_what_it_does_not_know(sdist: Path, tmp_path: Path) -> None:
    with pytest.raises(CotoError, match=r"corpus 'songs': unknown, expected one of movies"):
        read_corpus(sdist, "songs")
    with pytest.raises(CotoError, match="no such file"):
        read_corpus(tmp_path / SDIST, "movies")
    (tmp_path / SDIST).write_bytes(b"not it")
    with pytest.raises(CotoError, match=f"sha256 .* expected {vader.SHA256}"):
        read_corpus(tmp_path / SDIST, "movies")
