"""A log of completions becomes one static page: what was given to whom, what of it stands in the corpus, what was held.

Only lines up to the first that does not hold are counted, and the page says whether that is all of them.
"""

from collections import Counter, defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from starsmith.provenance.completion_log import COMPLETION, RECOVERED, Checked, Record, check

SHOWN = 20  # rows of a table of many
SHOWN_BLOCKED = 20
KINDS = ("source", "common", "licence", "low-information")


@dataclass
class Row:
    """Completions of one client, one day or one policy."""

    completions: int = 0
    with_source: int = 0
    blocked: int = 0


@dataclass(frozen=True)
class Blocked:
    """A completion that was ended because of a match."""

    time: str
    id: str
    client: str
    tokens: int
    licenses: Sequence[str]
    swhids: Sequence[str]


@dataclass
class Summary:
    """Counts over the lines of a log."""

    total: Row = field(default_factory=Row)
    clients: defaultdict[str, Row] = field(default_factory=lambda: defaultdict(Row))
    days: defaultdict[str, Row] = field(default_factory=lambda: defaultdict(Row))
    policies: defaultdict[str, Row] = field(default_factory=lambda: defaultdict(Row))
    matches: Counter[str] = field(default_factory=Counter)  # by kind
    completions: Counter[str] = field(default_factory=Counter)  # with at least one match of the kind
    licenses: Counter[str] = field(default_factory=Counter)  # of files named in matches of kind source
    files: Counter[str] = field(default_factory=Counter)
    models: Counter[str] = field(default_factory=Counter)
    tainted: Counter[str] = field(default_factory=Counter)  # by request
    blocked: deque[Blocked] = field(default_factory=lambda: deque(maxlen=SHOWN_BLOCKED))
    looked_at: int = 0  # completions for which there was an attribution
    recovered: int = 0
    first: str = ""
    last: str = ""

    def add(self, record: Record) -> None:
        """Count one line; a ValueError if it is none of a log of completions."""
        try:
            self._add(record)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{type(error).__name__} {error}") from None

    def _add(self, record: Record) -> None:
        time = _text(record["time"])
        self.first, self.last = self.first or time, time
        if record["event"] == RECOVERED:
            self.recovered += 1
            return
        if record["event"] != COMPLETION:
            raise ValueError(f"{record['event']!r} is no event")
        found: list[dict[str, Any]] = record["matches"] or []
        kinds = [_text(match["kind"]) for match in found]
        stopped = [match for match in found if match["blocked"]]
        for row in self._rows(record, time):
            row.completions += 1
            row.with_source += "source" in kinds
            row.blocked += bool(stopped)
        self.looked_at += record["matches"] is not None
        self.matches.update(kinds)
        self.completions.update(set(kinds))
        self.models[_text(record["model"]["id"])] += 1
        self.tainted.update(_texts(record["tainted"]))
        for match in found:
            if match["kind"] == "source":
                self.licenses.update(_texts(match["licences"]))
                self.files.update(_texts(match["swhids"]))
        for match in stopped:
            self.blocked.append(_blocked(record, time, match))

    def _rows(self, record: Record, time: str) -> list[Row]:
        client, policy = _text(record["client"]), _text(record["policy"])
        return [self.total, self.clients[client], self.days[time[:10]], self.policies[policy]]


def write(log: Path, out: Path, *, last: str | None = None) -> Checked:
    """Write the page about `log` to the file `out`; returns how far the log holds. Of no log there is no page.

    last  the digest of a line that is known to have been in it
    """
    from jinja2 import Environment, PackageLoader

    summary = Summary()
    checked = check(log, each=summary.add, last=last)
    if checked.fault is not None and not checked.lines:
        return checked
    environment = Environment(loader=PackageLoader("starsmith.evaluation"), autoescape=True)
    page = environment.get_template("log.html").render(
        title=log.name,
        checked=checked,
        known=last,
        summary=summary,
        kinds=KINDS,
        licenses=summary.licenses.most_common(SHOWN),
        files=summary.files.most_common(SHOWN),
        clients=sorted(summary.clients.items(), key=lambda item: -item[1].completions)[:SHOWN],
        days=sorted(summary.days.items())[-SHOWN:],
        most=max((row.completions for row in summary.days.values()), default=0),
        blocked=list(reversed(summary.blocked)),
    )
    out.write_text(page, encoding="utf-8")
    return checked


def _blocked(record: Record, time: str, match: dict[str, Any]) -> Blocked:
    return Blocked(
        time=time,
        id=_text(record["id"]),
        client=_text(record["client"]),
        tokens=int(match["tokens"]),
        licenses=_texts(match["licences"]),
        swhids=_texts(match["swhids"]),
    )


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} stands where a text belongs")
    return value


def _texts(values: Any) -> list[str]:
    return [_text(value) for value in values]
