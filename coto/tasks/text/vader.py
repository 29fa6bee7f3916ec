"""The human-rated corpora of VADER (Hutto and Gilbert, ICWSM 2014; MIT licence).

They lie inside the source distribution of vaderSentiment 3.3.2: movie review, product review, tweet
and newspaper editorial snippets, each with the mean of twenty people's ratings from -4 (extremely
negative) to 4 (extremely positive). Beside them is VADER's lexicon: 7,520 words and emoticons, each
with the mean of ten people's ratings. The archive is fetched from the user's package index with its
hash pinned and read in memory as data; nothing of it is unpacked or executed.
"""

import ast
import hashlib
import html
import io
import logging
import os
import re
import ssl
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

import pandas as pd

from coto import record
from coto.errors import CotoError
from coto.tasks.splits import digest, normalise

PROJECT = "vaderSentiment"
VERSION = "3.3.2"
SDIST = f"{PROJECT}-{VERSION}.tar.gz"
SHA256 = "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9"

_LEXICON = f"{PROJECT}-{VERSION}/vaderSentiment/vader_lexicon.txt"
_ARCHIVE = f"{PROJECT}-{VERSION}/additional_resources/hutto_ICWSM_2014.tar.gz"
# Corpus -> its file in the nested archive.
CORPORA = {
    "movies": "hutto_ICWSM_2014/movieReviewSnippets_GroundTruth.txt",
    "products": "hutto_ICWSM_2014/amazonReviewSnippets_GroundTruth.txt",
    "tweets": "hutto_ICWSM_2014/tweets_GroundTruth.txt",
    "news": "hutto_ICWSM_2014/nytEditorialSnippets_GroundTruth.txt",
}

log = logging.getLogger(__name__)


def fetch_sdist(directory: Path) -> Path:
    """Return the archive in ``directory``, downloading it unless it is there.

    CotoError if no index that pip is configured for serves the file with the pinned hash.
    """
    target = directory / SDIST
    if target.is_file() and record.sha256(target) == SHA256:
        return target
    try:
        content = _downloaded()
    except CotoError as error:
        raise CotoError(
            f"{SDIST}: cannot be downloaded: {error}; "
            f"go online once, or put the file with sha256 {SHA256} into {directory}"
        ) from error
    with record.atomic(target) as temporary:
        temporary.write_bytes(content)
    return target


def _downloaded() -> bytes:
    """The archive from the user's package indexes, without running any of its code.

    ``pip download`` executes a source distribution's ``setup.py`` to learn its dependencies. So pip
    is only asked for its configuration: indexes, find-links, proxy, certificates, trusted hosts,
    timeout.
    """
    import httpx2
    from unearth import PackageFinder
    from unearth.auth import MultiDomainBasicAuth
    from unearth.fetchers.sync import PyPIClient

    options = _pip_options()
    indexes = options.get("index-url", "https://pypi.org/simple").split()
    indexes += options.get("extra-index-url", "").split()
    if options.get("no-index", "").lower() in ("1", "true", "yes", "on", "y", "t"):
        indexes = []
    links = re.sub(r"(?<!\S)~", str(Path.home()), options.get("find-links", "")).split()
    # One at a time, so that one that cannot be reached does not keep the next from being asked.
    sources: list[dict[str, Any]] = [{"find_links": [link]} for link in links]
    sources += [{"index_urls": [url]} for url in indexes]
    certificates = options.get("cert") or os.environ.get("REQUESTS_CA_BUNDLE")
    connected: Any = PyPIClient(  # typed so that mypy takes it for no unearth.Fetcher, hence Any
        auth=MultiDomainBasicAuth(prompting=False, index_urls=indexes),
        trusted_hosts=options.get("trusted-host", "").split(),
        verify=ssl.create_default_context(cafile=certificates) if certificates else True,
        timeout=float(options.get("timeout") or options.get("default-timeout") or 15),
        proxy=options.get("proxy") or None,
        follow_redirects=True,
        headers={"Accept-Encoding": "identity"},
    )
    reason = "no index that pip is configured for can be reached and has it"
    with connected as client:
        for attempt in range(3):  # as long as an index cannot be reached
            time.sleep(2.0 * attempt)
            failed = False
            for source in sources:
                try:
                    finder = PackageFinder(client, no_binary=[":all:"], **source)
                    for package in finder.find_matches(f"{PROJECT}=={VERSION}"):
                        content = client.get(package.link.normalized).raise_for_status().content
                        if hashlib.sha256(content).hexdigest() == SHA256:
                            return content
                        reason = "the file served has another sha256"
                except (httpx2.HTTPError, ValueError) as error:  # ValueError: no such folder
                    place = "".join(*source.values())
                    log.warning("%s: %s", re.sub("//.*@", "//", place), error)
                    failed |= isinstance(error, httpx2.HTTPError)
            if not failed:
                break
    raise CotoError(reason)


def _pip_options() -> dict[str, str]:
    """What the configuration gives ``pip download``: of its sections the last one counts."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CotoError(f"pip's configuration cannot be read ({' '.join(done.stderr.split())})")
    lines = [line.partition("=") for line in done.stdout.splitlines()]
    return {
        name.removeprefix(f"{section}."): ast.literal_eval(value)
        for section in ("global", "download", ":env:")
        for name, _, value in lines
        if name.startswith(f"{section}.")
    }


def read_corpus(sdist: Path, name: str) -> pd.DataFrame:
    """Read one corpus out of the archive: a row per snippet, in file order.

    It has ``id`` (as in the file, such as ``12_3``), ``source`` (number of the article or review it
    was cut from; of movies and tweets, which stand alone, the id), ``rating`` (mean human rating,
    -4 to 4) and ``text``. CotoError if corpus or archive are unknown, missing or altered.
    """
    if name not in CORPORA:
        raise CotoError(f"corpus {name!r}: unknown, expected one of {', '.join(CORPORA)}")
    _check(sdist)
    with tarfile.open(sdist) as outer, outer.extractfile(_ARCHIVE) as nested:  # type: ignore[union-attr]
        content = io.BytesIO(nested.read())
    with tarfile.open(fileobj=content) as inner, inner.extractfile(CORPORA[name]) as member:  # type: ignore[union-attr]
        lines = member.read().decode("utf-8").split("\n")
    # Every line ends with \r\n; a text may hold further tabs, never a line break.
    fields = [line.rstrip("\r").split("\t", 2) for line in lines if line.strip()]
    frame = pd.DataFrame(fields, columns=["id", "rating", "text"])
    frame["rating"] = frame["rating"].astype("float64")
    frame["source"] = frame["id"].str.partition("_")[0]
    # The texts came through web pages: `&amp;` stands for `&`, and a few were escaped twice.
    frame["text"] = frame["text"].map(html.unescape).map(html.unescape).str.strip()
    return frame[["id", "source", "rating", "text"]]


def read_lexicon(sdist: Path) -> pd.DataFrame:
    """Read the sentiment lexicon out of the archive: a row per entry, in file order.

    It has ``word`` (emoticons and abbreviations too) and ``rating``, the mean of ten people's. The
    archive is checked as by :func:`read_corpus`.
    """
    _check(sdist)
    with tarfile.open(sdist) as outer, outer.extractfile(_LEXICON) as member:  # type: ignore[union-attr]
        lines = member.read().decode("utf-8").splitlines()
    fields = [line.split("\t")[:2] for line in lines if line.strip()]
    return pd.DataFrame(fields, columns=["word", "rating"]).astype({"rating": "float64"})


def _check(sdist: Path) -> None:
    if not sdist.is_file():
        raise CotoError(f"{sdist}: no such file, expected the archive {SDIST}")
    if (found := record.sha256(sdist)) != SHA256:
        raise CotoError(f"{sdist}: sha256 {found}, expected {SHA256}")


def snippets_of(corpus: pd.DataFrame, min_words: int) -> pd.DataFrame:
    """Snippets in reading order with ``unit``, their article by its content."""
    rows = corpus.assign(
        number=corpus["id"].str.partition("_")[2].astype("int64"),
        article=corpus["source"].astype("int64"),
        normal=corpus["text"].map(normalise),
    ).sort_values(["article", "number"])
    unit = rows.groupby("article")["normal"].agg(lambda texts: digest("article", *texts))
    # A sentence that stands in two articles (headlines, set phrases) belongs to neither.
    rows = rows[~rows["normal"].duplicated(keep=False)]
    rows = rows[rows["text"].str.split().map(len) >= min_words]
    return rows.assign(unit=rows["article"].map(unit))
