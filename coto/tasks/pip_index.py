"""Download one file of a Python package through pip's own index, without running any of its code.

``pip download --no-binary`` executes the package's ``setup.py`` to learn its dependencies. This
script stops before that: it asks pip for the links of a project and fetches the one whose sha256 is
known. It uses pip's own session and finder, so the user's indexes, find-links, proxies,
certificates and credentials apply. Run as a script by :mod:`coto.tasks.vader` in a process of its
own, because pip does not support being imported; tried with pip 23.2 and 26.3.
"""

import hashlib
import os
import sys
import tempfile
from importlib import import_module
from pathlib import Path

# Exit codes that the calling process tells apart.
NOT_FOUND, WRONG_HASH, NO_PIP = 3, 4, 5


def download(project: str, version: str, sha256: str, target: Path, options: list[str]) -> int:
    """Write the source distribution ``project==version`` with this ``sha256`` to ``target``.

    ``options`` are pip's, such as ``--no-cache-dir``. Returns 0 or one of the exit codes above.
    """
    try:
        commands = import_module("pip._internal.commands")
    except ImportError:
        return NO_PIP
    command = commands.create_command("download", isolated=False)
    parsed, _ = command.parse_args([*options, "--no-binary", ":all:", project])
    with command.main_context():
        session = command.get_default_session(parsed)
        finder = command._build_package_finder(options=parsed, session=session)
        links = [
            candidate.link
            for candidate in finder.find_all_candidates(project)
            if str(candidate.version) == version
        ]
        for link in links:
            response = session.get(
                link.url_without_fragment, headers={"Accept-Encoding": "identity"}
            )
            response.raise_for_status()
            if hashlib.sha256(response.content).hexdigest() == sha256:
                _write_atomically(target, response.content)
                return 0
    return WRONG_HASH if links else NOT_FOUND


def _write_atomically(target: Path, content: bytes) -> None:
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        Path(name).chmod(0o644)
        Path(name).replace(target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


if __name__ == "__main__":
    _project, _version, _sha256, _target, *_options = sys.argv[1:]
    sys.exit(download(_project, _version, _sha256, Path(_target), _options))
