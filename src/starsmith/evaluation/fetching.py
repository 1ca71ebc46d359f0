"""A benchmark's file from where its authors publish it, kept for the next time.

`published_files.json` says where that is, and which content was there when this was written (SHA-256 of the file,
unpacked; null where the authors go on changing it): a score is of a text, not of a name.
"""

import hashlib
import json
import os
import zlib
from importlib import resources
from pathlib import Path

from starsmith.core.console import progress
from starsmith.core.errors import InputError
from starsmith.evaluation.export import read_content

FOLDER = Path(".cache/starsmith/benchmarks")  # in the home folder
TIMEOUT_S = 30.0
MOST_BYTES = 1 << 28


def kept_or_fetched(name: str, *, task: str, folder: Path | None = None) -> Path:
    """The file of this name in the folder of those that were fetched before, or fetched now.

    errors  InputError where there is no network, nobody publishes such a file, or it is another
    """
    folder = folder or Path.home() / FOLDER
    for kept in (folder / name, folder / f"{name}.gz"):
        if kept.is_file():
            return kept
    published = _published().get(name)
    if published is None:
        raise InputError(f"{task} needs the file {name}", hint="give the folder that it lies in: --data DIR")
    url, digest = published["url"] or "", published["sha256"]
    path = folder / (f"{name}.gz" if url.endswith(".gz") else name)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    folder.mkdir(parents=True, exist_ok=True)
    try:
        _download(url, partial, task=task, name=name)
        seen = hashlib.sha256(_content(partial, url)).hexdigest()
        if digest is not None and seen != digest:
            raise InputError(
                f"{url} has another {name} than the one that is known: SHA-256 {seen}, wanted {digest}",
                hint="look what has changed, and give the file that you mean: --data FILE",
            )
        partial.rename(path)
    finally:
        partial.unlink(missing_ok=True)
    return path


def _published() -> dict[str, dict[str, str | None]]:
    text = (resources.files("starsmith.evaluation.benchmarks") / "published_files.json").read_text("utf-8")
    found: dict[str, dict[str, str | None]] = json.loads(text)
    return found


def _content(path: Path, url: str) -> bytes:
    try:
        return read_content(path)
    except zlib.error as error:
        raise InputError(f"{url} is no gzip file: {error}", hint="give your own copy: --data DIR") from None


def _download(url: str, out: Path, *, task: str, name: str) -> None:
    import httpx2

    try:
        with (
            httpx2.stream("GET", url, follow_redirects=True, timeout=TIMEOUT_S) as response,
            out.open("wb") as file,
            progress(f"fetching {name}", total=None, unit="bytes") as advance,
        ):
            response.raise_for_status()
            for piece in response.iter_bytes():
                file.write(piece)
                advance(len(piece))
                if file.tell() > MOST_BYTES:
                    raise InputError(f"{url} is larger than {MOST_BYTES:,} bytes", hint="this is no benchmark")
    except (httpx2.HTTPError, OSError) as error:
        raise InputError(
            f"{task} needs the file {name}, and it could not be fetched: {url}: {error or type(error).__name__}",
            hint="get it by another way, and give the folder that it lies in: --data DIR",
        ) from None
