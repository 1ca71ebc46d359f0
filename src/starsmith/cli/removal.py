"""`starsmith corpus remove`: what goes is shown, marked downstream at once, and left out of a new corpus."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from starsmith.cli.options import DIRECTORY

if TYPE_CHECKING:
    from starsmith.corpus.origins import Removed
    from starsmith.corpus.removal import Plan
    from starsmith.corpus.removal_requests import Request
    from starsmith.provenance.revocation import Mark, Search

SHOWN = 20  # rows of a table


@click.command()
@click.argument("requests")
@click.argument("sources", nargs=-1)
@click.option("--corpus", "directory", type=DIRECTORY, required=True, help="The corpus that it is removed from.")
@click.option("--out", type=DIRECTORY, help="New directory, for the corpus without it.")
@click.option("--id", "name", help="Id of the one request, where REQUESTS is no file.")
@click.option("--downstream", type=DIRECTORY, multiple=True, help="Look here too for what was made from the corpus.")
@click.option(
    "--without-sources", is_flag=True, help="Only take rows away, where the sources are gone: see the manual."
)
@click.option("--dry-run", is_flag=True, help="Say what would happen, and write nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def remove(
    requests: str,
    sources: tuple[str, ...],
    directory: Path,
    out: Path | None,
    name: str | None,
    downstream: tuple[Path, ...],
    without_sources: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Make a corpus in which nothing is left of what REQUESTS name, and mark all that was made from the old one.

    REQUESTS is a file of requests (TOML, JSON lines, or an opt-out list), or one request: an owner, owner/repo,
    owner/repo:path, a URL, swh:1:cnt:…, or copies_of=FILE for every file that is at least 80 % a copy of FILE.

    The recorded build is run again without the files, from the same commits, so the result is what a build without
    them gives. SOURCES are given only if they moved: then all of them. The same command ends interrupted work.
    """
    from starsmith.core.errors import InputError
    from starsmith.corpus import removal, removal_alone
    from starsmith.corpus.removal_requests import read_requests
    from starsmith.provenance import revocation

    if out is None and not dry_run:
        raise InputError("no place for the new corpus was given", hint="give --out DIR, or --dry-run to look first")
    if without_sources and sources:
        raise InputError("--without-sources and SOURCES exclude each other", hint="leave one of them out")
    if out is not None:
        removal.check_place(directory, out)
    kin = _kin_of(directory, read_requests(requests, name=name), downstream)
    plan, unknown = kin[0].plan, kin[0].found.unknown
    marks = [mark for one in kin for mark in one.marks()]
    if not as_json:
        _print_plan(plan)
    outcome: dict[str, Any] = {}
    if out is not None and not dry_run:
        prepared = None if without_sources else removal.prepare(plan, sources, out=out)
        revocation.set_marks(marks)  # before the long work: what is withdrawn is not served meanwhile
        outcome["out"] = str(out)
    if not as_json:
        _print_marks(marks, unknown, "Marked" if outcome else "To be marked")
    if out is not None and not dry_run:
        if prepared is None:
            outcome["not_readmitted"] = [vars(one) for one in removal_alone.run(plan, out=out)]
        else:
            removed = removal.run(prepared)
            outcome["removed"] = [vars(one) for one in removed]
            more = [mark for one in kin for mark in one.marks_by_sources(removed, out) if mark not in marks]
            revocation.set_marks(more)
            marks = [mark for mark in (*marks, *more) if mark.artefact.path != out.resolve()]  # it is another by now
            if not as_json:
                _print_marks(more, (), "Also marked")
        revocation.lift(out, plan.removals.ids)  # of the corpus that was here before
        outcome["came_in"] = [f"{repository}:{path}" for repository, path in removal.came_in(directory, out)]
    if as_json:
        _print_json(plan, marks, unknown, outcome)
    elif outcome:
        _print_outcome(plan, outcome)


@dataclass(frozen=True)
class _Kin:
    """A corpus, what of it goes, and what was made from it."""

    plan: "Plan"
    found: "Search"

    def marks(self) -> "list[Mark]":
        """By what the corpus shows."""
        from starsmith.provenance import revocation

        documents = {one.key for one in self.plan.documents}
        return revocation.marks_of(self.found, self.plan.ids, documents) if documents else []

    def marks_by_sources(self, removed: "list[Removed]", out: Path) -> "list[Mark]":
        """Also by what only the sources showed: copies that are none any more once secrets are taken out of them."""
        from starsmith.corpus import removal
        from starsmith.provenance import revocation

        if self.plan.corpus.resolve() == out.resolve():  # it was here before
            return []
        documents, ids = {one.key for one in self.plan.documents}, list(self.plan.ids)
        gone = {(one.repository, one.path, one.swhid): one.ids for one in removed}
        for key in removal.identities(self.plan.corpus):
            if key in gone and key not in documents:
                documents.add(key)
                ids += gone[key]
        return revocation.marks_of(self.found, ids, documents) if documents else []


def _kin_of(directory: Path, requests: "tuple[Request, ...]", downstream: tuple[Path, ...]) -> list[_Kin]:
    """The corpus, and those that earlier removals made of it, or of one before it: they have most of what it has."""
    from starsmith.corpus import origins, removal
    from starsmith.provenance import revocation

    artefacts = revocation.artefacts(directory, downstream)
    before = origins.read_past(directory).corpora
    ids = {artefacts[directory.resolve()].id, *before}
    kin = [_Kin(removal.plan(directory, requests), revocation.search(directory, among=artefacts, before=before))]
    for path, manifest in artefacts.items():
        if manifest.kind == "corpus" and manifest.id not in ids and not ids.isdisjoint(origins.read_past(path).corpora):
            kin.append(_Kin(removal.plan(path, requests), revocation.search(path, among=artefacts)))
    return kin


def _print_json(plan: "Plan", marks: "list[Mark]", unknown: Sequence[Path], outcome: dict[str, Any]) -> None:
    downstream = {
        mark.artefact.path: {"path": str(mark.artefact.path), "kind": mark.artefact.kind, "mark": mark.name}
        for mark in marks
    }
    told = {"downstream": list(downstream.values()), "unknown": list(map(str, unknown))}
    click.echo(json.dumps({**plan.to_json(), **told, **outcome}, indent=2))


def _print_plan(plan: "Plan") -> None:
    from starsmith.core.console import note, table

    numbers = plan.documents_by_request
    rows = [
        (one.repository, one.path, one.split, f"{one.cluster_size - 1:,}", ", ".join(one.ids))
        for one in plan.documents[:SHOWN]
    ]
    title = f"{_files(len(plan.documents))} of {plan.corpus} {'goes' if len(plan.documents) < 2 else 'go'}"
    if rows:
        title += f", the first {SHOWN} are shown" if len(plan.documents) > SHOWN else ""
        table(title, ("repository", "path", "split", "stands for", "request"), rows, right=("stands for",))
    else:
        click.echo(title)
    for one in plan.removals.ids:
        if not numbers[one]:
            note(f"request {one} holds for no file of {plan.corpus}")
    if plan.clusters:
        others = sum(one.cluster_size - 1 for one in plan.clusters)
        click.echo(f"{_files(others)} left out as copies of {len(plan.clusters):,} of these: decided about anew")
    if plan.left_out:
        click.echo(f"{_files(len(plan.left_out))} more named in the list of what was left out: no longer named")


def _print_marks(marks: "list[Mark]", unknown: Sequence[Path], what: str) -> None:
    from starsmith.core.console import note, table

    if marks:
        rows = list(dict.fromkeys((mark.artefact.kind, mark.artefact.path, mark.name) for mark in marks))
        table(f"{what} with the ids of the requests", ("kind", "artefact", "mark"), rows)
    for path in unknown:
        note(f"{path}: what it was made from is not there, so nobody can tell whether to mark it")


def _print_outcome(plan: "Plan", outcome: dict[str, Any]) -> None:
    from starsmith.core import artifact
    from starsmith.core.console import note
    from starsmith.corpus import removal

    before, after = (artifact.read(Path(place)).counts["kept"] for place in (plan.corpus, outcome["out"]))
    click.echo(f"{outcome['out']}: {_files(after)}, {before:,} before")
    if "removed" in outcome:
        click.echo(f"{_files(len(outcome['removed']))} of the sources passed over")
    if came := outcome["came_in"]:
        click.echo(f"{len(came):,} came in for those: {', '.join(came[:5])}{' …' if len(came) > 5 else ''}")
    for one in outcome.get("not_readmitted", ())[:SHOWN]:
        click.echo(f"not re-admitted: {one['repository']}:{one['path']}, left out as a copy of what goes")
    if removal.is_other_code(plan.corpus):
        note(f"{plan.corpus} was built by another version, which may have decided otherwise about what stays")


def _files(count: int) -> str:
    return f"{count:,} file{'s' if count > 1 else ''}" if count else "no file"
