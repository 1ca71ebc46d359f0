"""Sources as though they had never had the files that requests for removal hold for.

A file that goes is passed over when it is read (`work`). Here is what it could decide about others: the licence of the
files in its folder, where it is the text of one or a package's manifest.
"""

import hashlib
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace

from starsmith.core.records import swhid_of
from starsmith.corpus.config import CorpusConfig
from starsmith.corpus.files import Drop
from starsmith.corpus.licenses import Finding
from starsmith.corpus.removal_requests import Removals
from starsmith.corpus.sources import Source
from starsmith.corpus.trees import Entry, Reader, TreeUnit, Unit, folder_of, plan_units


def units_of(sources: Sequence[Source], config: CorpusConfig, removals: Removals | None) -> list[tuple[int, Unit]]:
    """The units of all sources in an order of their own, each with the number of its source."""
    order = sorted(
        range(len(sources)), key=lambda at: (sources[at].repository, sources[at].commit, str(sources[at].root))
    )
    found: list[tuple[int, Unit]] = []
    for number in order:
        units = sources[number].units(largest_bytes=config.largest_bytes)
        found += [(number, unit) for unit in (_without_licenses_of(units, removals) if removals else units)]
    return found


@dataclass(frozen=True)
class _Hiding:
    """Reads a tree as though it did not have the files that requests hold for."""

    reader: Reader
    repository: str
    removals: Removals

    def contents(self, entries: Sequence[Entry], largest_bytes: int) -> Generator[bytes | Drop]:
        with closing(self.reader.contents(entries, largest_bytes)) as contents:
            for entry, content in zip(entries, contents, strict=True):
                yield Drop("removed") if self._is_hidden(entry.path, content) else content

    def _is_hidden(self, path: str, content: bytes | Drop) -> bool:
        if isinstance(content, Drop):
            return False
        return bool(self.removals.holding(self.repository, path, swhid_of(content), content))


def _without_licenses_of(units: Sequence[Unit], removals: Removals) -> list[Unit]:
    """Units of one source in which no licence comes from a file that a request holds for."""
    trees = [unit for unit in units if isinstance(unit, TreeUnit)]
    if not trees:
        return list(units)
    tree, items = trees[0].tree, [item for unit in trees for item in unit.items]
    hidden = replace(tree, reader=_Hiding(tree.reader, tree.repository, removals))
    planned = plan_units(hidden, items, largest_bytes=trees[0].largest_bytes)
    found = {
        folder: finding for unit in planned if isinstance(unit, TreeUnit) for folder, finding in unit.licenses.items()
    }
    return [_with_licenses(unit, found) if isinstance(unit, TreeUnit) else unit for unit in units]


def _with_licenses(unit: TreeUnit, found: Mapping[str, Finding]) -> TreeUnit:
    folders = sorted({folder_of(item.path) for item in unit.items})
    licenses = {folder: found[folder] for folder in folders if folder in found}
    known = repr((unit.fingerprint, [(name, one.expression, one.evidence) for name, one in licenses.items()]))
    return replace(unit, licenses=licenses, fingerprint=hashlib.sha256(known.encode()).hexdigest())
