"""The human-rated corpora of VADER (Hutto and Gilbert, ICWSM 2014; MIT licence).

They lie inside the source distribution of vaderSentiment 3.3.2: movie review, product review, tweet
and newspaper editorial snippets, each with the mean of twenty people's ratings from -4 (extremely
negative) to 4 (extremely positive). The archive is fetched by pip with its hash pinned and read in
memory as data; nothing of it is unpacked or executed.
"""

import hashlib
import html
import io
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pandas as pd

from coto.errors import CotoError
from coto.tasks import pip_index

PROJECT = "vaderSentiment"
VERSION = "3.3.2"
SDIST = f"{PROJECT}-{VERSION}.tar.gz"
SHA256 = "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9"
ATTEMPTS = 2  # pip itself tries every connection several times

_ARCHIVE = f"{PROJECT}-{VERSION}/additional_resources/hutto_ICWSM_2014.tar.gz"
# Corpus -> its file in the nested archive.
CORPORA = {
    "movies": "hutto_ICWSM_2014/movieReviewSnippets_GroundTruth.txt",
    "products": "hutto_ICWSM_2014/amazonReviewSnippets_GroundTruth.txt",
    "tweets": "hutto_ICWSM_2014/tweets_GroundTruth.txt",
    "news": "hutto_ICWSM_2014/nytEditorialSnippets_GroundTruth.txt",
}


def fetch_sdist(directory: Path) -> Path:
    """Return the archive in ``directory``, downloading it through pip unless it is there.

    Raises:
        CotoError: No index that pip is configured for serves the file, or only with another hash.
    """
    target = directory / SDIST
    if target.is_file() and _sha256(target) == SHA256:
        return target
    directory.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-P", str(Path(pip_index.__file__))]
    command += [PROJECT, VERSION, SHA256, str(target.resolve()), "--no-input"]
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(2.0)
            command.append("--no-cache-dir")  # a broken copy in pip's cache must not come back
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
        if done.returncode == 0:
            return target
        if done.returncode == pip_index.NO_PIP:
            break
    said = done.stderr.strip().splitlines()
    reason = {
        pip_index.NO_PIP: f"{sys.executable} has no pip",
        pip_index.NOT_FOUND: "no index that pip is configured for can be reached and has it",
        pip_index.WRONG_HASH: "the file served has another sha256",
    }.get(done.returncode, said[-1] if said else f"exit status {done.returncode}")
    raise CotoError(
        f"{SDIST}: cannot be downloaded through pip: {reason}; "
        f"go online once, or put the file with sha256 {SHA256} into {directory}"
    )


def read_corpus(sdist: Path, name: str) -> pd.DataFrame:
    """Read one corpus out of the archive.

    Returns:
        One row per snippet in file order: ``id`` (as in the file, such as ``12_3``), ``source``
        (number of the article or review it was cut from; movies and tweets stand alone, there it
        is the id), ``rating`` (mean human rating, -4 to 4) and ``text``.

    Raises:
        CotoError: Unknown corpus, or an archive that is missing, altered or unreadable.
    """
    if name not in CORPORA:
        raise CotoError(f"corpus {name!r}: unknown, expected one of {', '.join(CORPORA)}")
    if not sdist.is_file():
        raise CotoError(f"{sdist}: no such file, expected the archive {SDIST}")
    if (found := _sha256(sdist)) != SHA256:
        raise CotoError(f"{sdist}: sha256 {found}, expected {SHA256}")
    lines = _member(sdist, CORPORA[name]).decode("utf-8").split("\n")
    # Every line ends with \r\n; a text may hold further tabs, never a line break.
    fields = [line.rstrip("\r").split("\t", 2) for line in lines if line.strip()]
    frame = pd.DataFrame(fields, columns=["id", "rating", "text"])
    frame["rating"] = frame["rating"].astype("float64")
    frame["source"] = frame["id"].str.partition("_")[0]
    # The texts came through web pages: `&amp;` stands for `&`, and a few were escaped twice.
    frame["text"] = frame["text"].map(html.unescape).map(html.unescape).str.strip()
    return frame[["id", "source", "rating", "text"]]


def _member(sdist: Path, name: str) -> bytes:
    with tarfile.open(sdist) as outer, outer.extractfile(_ARCHIVE) as nested:  # type: ignore[union-attr]
        content = io.BytesIO(nested.read())
    with tarfile.open(fileobj=content) as inner, inner.extractfile(name) as member:  # type: ignore[union-attr]
        return member.read()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
