"""`starsmith index`, `attribute` and `verify`: where code comes from, and whether the chain of artefacts holds."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from starsmith.cli.options import DIRECTORY, FILE, load_config, out_option, recipe_options

if TYPE_CHECKING:
    from starsmith.provenance.attribution import Match, Source
    from starsmith.provenance.lineage import Redo, Verification
    from starsmith.provenance.policy import Demands
    from starsmith.provenance.signing import Signed

EXIT_STATUS = {"holds": 0, "tampered": 1, "incomplete": 2, "policy": 3}
VERDICTS = {"holds": "holds", "tampered": "does not hold", "incomplete": "incomplete", "policy": "not allowed"}


@click.command()
@click.argument("corpus", type=DIRECTORY)
@out_option
@recipe_options
def index(corpus: Path, out: Path, recipe: Path | None, overrides: tuple[str, ...]) -> None:
    """Fingerprint the training files of CORPUS, to find where code comes from."""
    from starsmith.provenance import index as stage

    stage.run(load_config("index", stage.IndexConfig, recipe, overrides), corpus=corpus, out=out)


@click.command()
@click.argument("file", type=click.Path(path_type=Path, allow_dash=True))
@click.option("--index", "index_dir", type=DIRECTORY, required=True, help="Directory of the index.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def attribute(file: Path, index_dir: Path, as_json: bool) -> None:
    """Say which corpus files the code in FILE (- for standard input) goes back to."""
    from starsmith.provenance.attribution import Attributor

    attributor = Attributor.open(index_dir)
    text = _read_text(file)
    matches = attributor.attribute(text)
    if as_json:
        found = [{**_query_lines(text, match), **match.to_json()} for match in matches]
        click.echo(json.dumps({"file": str(file), "matches": found}, indent=2))
        return
    if not matches:
        click.echo(
            f"{file}: no match. A copy of {attributor.guaranteed_tokens} code tokens or more would have been found."
        )
    for match in matches:
        _print_match(text, match)


@click.command()
@click.argument("directory", type=DIRECTORY, required=False)
@click.option("--key", type=FILE, help="Public key that must have signed DIRECTORY.")
@click.option("--deep", is_flag=True, help="Also make again what can be, and score stored samples again.")
@click.option("--pin", "pins", multiple=True, metavar="ID", help="An artefact that need not be there.")
@click.option("--allow", multiple=True, metavar="SPDX", help="A licence that documents may have; no other then may be.")
@click.option("--policy", type=FILE, help="TOML with [licenses], as in a recipe's corpus, and [opt_outs].")
@click.option("--opt-outs-within", type=click.IntRange(min=0), metavar="DAYS", help="Greatest age of opt-out lists.")
@click.option("--inclusion", metavar="SWHID", help="Print a proof that this document is in the corpus, and check it.")
@click.option(
    "--diff", nargs=2, type=DIRECTORY, metavar="A B", help="Print what B adds to, removes from, changes in A."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def verify(
    directory: Path | None,
    key: Path | None,
    deep: bool,
    pins: tuple[str, ...],
    allow: tuple[str, ...],
    policy: Path | None,
    opt_outs_within: int | None,
    inclusion: str | None,
    diff: tuple[Path, Path] | None,
    as_json: bool,
) -> None:
    """Check the artefact in DIRECTORY and everything it was made from, to the last byte.

    Exit status 0: it holds; 1: something was changed, or is not signed by --key; 2: something it was made from is
    missing; 3: a licence, the age of the opt-outs or a withdrawn source stands against its use.

    The verdict is the last line of the output. Where nothing could be judged, there is none, and standard error says
    why: with status 1 for what was given (a file that is missing, a pin that is no id), with 2 for a wrong usage.
    """
    if (diff is None) == (directory is None):
        raise click.UsageError("give the DIRECTORY to verify, or --diff A B")
    if diff is not None:
        _refuse_others("--diff", "diff", "as_json")
        _print_differences(*diff, as_json=as_json)
        return
    assert directory is not None
    if inclusion is not None:
        _refuse_others("--inclusion", "inclusion", "as_json")
        sys.exit(_print_proofs(directory, inclusion))
    from starsmith.provenance.lineage import verify_chain

    _check_pins(pins)
    rules = _load_policy(allow, policy, opt_outs_within)
    found = verify_chain(directory, policy=rules, pins=pins, redo=_redo() if deep else None)
    signed = _check_signature(directory, key, found) if key else None
    if as_json:
        signature = {"signed": signed.to_json() if signed else None} if key else {}
        click.echo(json.dumps({**found.to_json(), **signature}, indent=2))
    else:
        if signed is not None:
            click.echo(f"signed: {directory} by {signed.name or 'the key'} {signed.key}")
        _print_verification(found)
    sys.exit(EXIT_STATUS[found.verdict])


def _refuse_others(option: str, *compatible: str) -> None:
    """An option that does another thing than verify must not seem to heed what belongs to that."""
    context = click.get_current_context()
    given = [
        max(parameter.opts, key=len)
        for parameter in context.command.params
        if isinstance(parameter, click.Option)
        and parameter.name is not None
        and parameter.name not in compatible
        and context.get_parameter_source(parameter.name) is ParameterSource.COMMANDLINE
    ]
    if given:
        raise click.UsageError(f"{option} goes without {', '.join(given)}")


def _check_signature(directory: Path, key: Path, found: "Verification") -> "Signed | None":
    """Who signed the artefact; that nobody of the key's file did is a problem like any other."""
    from starsmith.core.errors import ArtifactError
    from starsmith.provenance.lineage import Problem
    from starsmith.provenance.signing import check

    try:
        return check(directory, key)
    except ArtifactError as error:
        if error.message not in {problem.message for problem in found.problems}:
            found.problems.append(Problem(directory, error.message))
        return None


def _check_pins(pins: tuple[str, ...]) -> None:
    from starsmith.core.errors import InputError

    if wrong := [pin for pin in pins if len(pin) != 64 or set(pin) - set("0123456789abcdef")]:
        raise InputError(f"--pin {wrong[0]} is no id", hint="give the whole id that a manifest has: 64 hex digits")


def _load_policy(allow: tuple[str, ...], file: Path | None, opt_outs_within: int | None) -> "Demands":
    from starsmith.core.config import build, load_recipe
    from starsmith.core.errors import ConfigError
    from starsmith.corpus.licenses import Finding
    from starsmith.corpus.policy import LicensePolicy
    from starsmith.provenance.policy import Demands, OptOutDemand

    tables = load_recipe(file, known=("licenses", "opt_outs")) if file else {}
    if allow and "licenses" in tables:
        raise ConfigError(f"--allow and {file} [licenses] both say what is allowed", hint="give one of them")
    licences = build(LicensePolicy, tables["licenses"], where=f"{file} [licenses]") if "licenses" in tables else None
    if allow:
        licences = LicensePolicy(base="none", allow=allow)
    within = build(OptOutDemand, tables.get("opt_outs", {}), where=f"{file} [opt_outs]").within_days

    def object_to(expression: str, evidence: str) -> str | None:
        drop = licences.decide(Finding(expression, evidence)) if licences else None
        return (licences.objection(expression) or drop.detail) if licences and drop else None

    return Demands(
        licence=object_to if licences else None,
        opt_outs_within_days=within if opt_outs_within is None else opt_outs_within,
    )


def _redo() -> "dict[str, Redo]":
    from starsmith.evaluation.rescoring import rescore
    from starsmith.provenance.reruns import STAGES, rerun

    return {**dict.fromkeys(STAGES, rerun), "evaluation": rescore}


def _print_proofs(directory: Path, swhid: str) -> int:
    """Print the proof for a document as JSON; returns the exit status."""
    from starsmith.core import artifact, merkle
    from starsmith.provenance.differences import corpus_of

    corpus = corpus_of(directory)
    problems = artifact.verify(corpus)
    for problem in problems:
        click.echo(f"changed: {problem}", err=True)
    proofs = merkle.prove(corpus, swhid)
    manifest = artifact.read(corpus)
    others = [proof.to_json() for proof in proofs[1:]]  # a content that stands at several places
    click.echo(json.dumps({"corpus": manifest.id, **proofs[0].to_json(), "others": others}, indent=2))
    return EXIT_STATUS["holds" if not problems and all(proof.holds for proof in proofs) else "tampered"]


def _print_differences(before: Path, after: Path, *, as_json: bool) -> None:
    from starsmith.provenance.differences import compare, corpus_of

    found = compare(corpus_of(before), corpus_of(after))
    if as_json:
        click.echo(json.dumps(found.to_json(), indent=2))
        return
    for sign, documents in (("added", found.added), ("removed", found.removed)):
        for one in documents:
            click.echo(f"{sign}  {one.repository}  {one.path}  {one.swhid}")
    for change in found.changed:
        swhids = f"{' '.join(change.before)} -> {' '.join(change.after)}"
        click.echo(f"changed  {change.repository}  {change.path}  {swhids}")
    numbers = f"{len(found.added):,} added, {len(found.removed):,} removed, {len(found.changed):,} changed"
    click.echo(f"{numbers}, {found.unchanged:,} unchanged")


def _read_text(file: Path) -> str:
    from starsmith.core.errors import InputError

    try:
        content = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
        return content.decode("utf-8")
    except (FileNotFoundError, IsADirectoryError):
        raise InputError(f"{file} is not a file", hint="give one file, or - for standard input") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{file} is not UTF-8 text: {error}", hint="convert it first") from None
    except OSError as error:
        raise InputError(
            f"{file} cannot be read: {error.strerror}", hint="give one file, or - for standard input"
        ) from None


def _query_lines(text: str, match: "Match") -> dict[str, Any]:
    first = text.count("\n", 0, match.start) + 1
    return {"first_line": first, "last_line": first + text.count("\n", match.start, match.end)}


def _print_match(text: str, match: "Match") -> None:
    lines = _query_lines(text, match)
    where = f"lines {lines['first_line']}-{lines['last_line']}"
    places = f"{match.count:,} place{'s' if match.count > 1 else ''}"
    click.echo(f"{where}  {match.tokens} tokens  {match.kind}  in {places} of the corpus")
    for source in match.sources:
        click.echo(f"  {source.path}:{source.first_line}-{source.last_line}  {source.license or 'no licence'}")
        click.echo(f"    {_origin(source)}")
    click.echo()


def _origin(source: "Source") -> str:
    repository = f"{source.repository}@{source.commit}" if source.commit else source.repository
    return f"{repository}  {source.url or source.swhid}"


def _print_verification(found: "Verification") -> None:
    from starsmith.core.console import table

    wrong = found.problems_by_artifact()
    rows = [
        (checked.path, checked.kind, checked.id[:16], checked.files, "CHANGED" if wrong[checked.path] else "holds")
        for checked in found.artifacts
    ]
    table("The chain", ("artefact", "kind", "id", "files", "verdict"), rows, right=("files",))
    for problem in found.problems:
        click.echo(f"changed: {problem.message}")
    for parent in found.missing:
        click.echo(f"missing: the {parent.role} that {parent.child} was made from (id {parent.id[:16]}…)")
    for parent in found.pinned:
        click.echo(f"pinned: the {parent.role} that {parent.child} was made from (id {parent.id[:16]}…)")
    for objection in found.objections:
        click.echo(f"policy: {objection.message}")
    for message in found.notes:
        click.echo(f"note: {message}")
    click.echo(VERDICTS[found.verdict])
