"""`starsmith serve` and `starsmith complete`."""

import json
import re
import socket
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing, suppress
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from starsmith.cli.options import DIRECTORY, FILE

if TYPE_CHECKING:
    from starsmith.inference.loading import Weights
    from starsmith.provenance.completion_log import CompletionLog
    from starsmith.serving.attribution import Policy
    from starsmith.serving.cards import ModelCard
    from starsmith.serving.opening import Loading
    from starsmith.serving.service import Finished, Service

Command = TypeVar("Command", bound=Callable[..., Any])

# Of serving.attribution and of inference.loading, which help need not load.
POLICIES = ("off", "annotate", "block", "block-nonpermissive")
WEIGHTS = ("auto", "float32", "bfloat16", "w8a8", "int8", "int4")
LOOKS_LIKE_SERVER = re.compile(r"[\w.-]+:\d+(/.*)?")

index_option = click.option(
    "--index", type=DIRECTORY, help="Fingerprint index; by default the one beside a model of the same corpus."
)
attribution_option = click.option(
    "--attribution",
    type=click.Choice(POLICIES),
    help="What to do with code that stands in the index's corpus; by default annotate, if there is an index.",
)


def engine_options(command: Command) -> Command:
    """Add what sets up our own engine."""
    command = click.option(
        "--kv-tokens",
        type=click.IntRange(1),
        help="Remember the keys and values of so many tokens; by default of two contexts.",
    )(command)
    return click.option(
        "--weights",
        type=click.Choice(WEIGHTS),
        default="auto",
        show_default=True,
        help="Form in which the weights are computed; auto: as they are stored.",
    )(command)


@click.command()
@click.argument("targets", nargs=-1, metavar="[TARGET]...")
@engine_options
@index_option
@attribution_option
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=8080, show_default=True, help="0 takes a free one.")
@click.option("--model-id", help="Name of the model in every protocol; by default made from the directory's.")
@click.option("--token", envvar="STARSMITH_TOKEN", help="Let in only who sends it (or set STARSMITH_TOKEN).")
@click.option("--tokens", type=FILE, help="TOML with a table for each client: token or sha256, and attribution.")
@click.option("--log", type=FILE, help="Add every completion to this hash-chained log; see starsmith report.")
@click.option(
    "--repository", "repositories", type=DIRECTORY, multiple=True, help="Guess ahead from the code in this folder."
)
@click.option("--log-text", is_flag=True, help="Have the log keep prompts and completions, and not only their sha256.")
def serve(
    targets: tuple[str, ...],
    weights: "Weights",
    kv_tokens: int | None,
    index: Path | None,
    attribution: "Policy | None",
    host: str,
    port: int,
    model_id: str | None,
    token: str | None,
    tokens: Path | None,
    log: Path | None,
    repositories: tuple[Path, ...],
    log_text: bool,
) -> None:
    """Serve a model to editors, SDKs and browsers.

    TARGET is a model's directory, a .gguf file (llama.cpp), or the address of a server that speaks OpenAI's
    completions: http://HOST:PORT/v1. Several addresses share the work. Without one, the starter model is served.
    """
    from starsmith.provenance.completion_log import CompletionLog
    from starsmith.serving.clients import read_clients
    from starsmith.serving.opening import Loading

    check_options(token, log, log_text=log_text)
    loading = Loading(weights=weights, kv_tokens=kv_tokens, repositories=repositories)
    model = directory_of(targets, loading)
    clients = read_clients(tokens) if tokens else {}
    with listen(host, port) as listener, ExitStack() as stack:
        opened = stack.enter_context(closing(CompletionLog.open(log))) if log else None
        service = open_targets(targets, model, index=index, model_id=model_id, policy=attribution, loading=loading)
        stack.enter_context(closing(service))
        service = service.guarded(token=token, clients=clients, log=opened, log_text=log_text)
        answer(service, listener, host)


def answer(service: "Service", listener: socket.socket, host: str) -> None:
    """Answer requests until somebody presses Ctrl-C."""
    import uvicorn

    from starsmith.core.console import note
    from starsmith.serving.app import create_app
    from starsmith.serving.auth import hosts_of

    listener.listen()  # who connects from now on is answered, if a moment later
    note(welcome(service, _url(host, listener.getsockname()[1])))
    app = create_app(service, hosts=hosts_of(host, locked=service.locked))
    config = uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=2)
    with suppress(KeyboardInterrupt):  # uvicorn raises it again after its orderly end
        uvicorn.Server(config).run(sockets=[listener])
    if service.log is not None:
        note(f"{service.log.path}: {service.log.lines:,} lines, the last has sha256 {service.log.last}")


@click.command()
@click.argument("target", required=False, metavar="[MODEL]")
@click.option("--file", "file", type=DIRECTORY, required=True, help="Source file to complete in.")
@click.option("--line", type=click.IntRange(1), required=True, help="Line of the cursor; the first is 1.")
@click.option("--column", type=click.IntRange(1), required=True, help="Column, in characters; before the first is 1.")
@click.option("--max-tokens", type=click.IntRange(1), default=64, show_default=True, help="End after so many.")
@engine_options
@index_option
@attribution_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def complete(
    target: str | None,
    file: Path,
    line: int,
    column: int,
    max_tokens: int,
    weights: "Weights",
    kv_tokens: int | None,
    index: Path | None,
    attribution: "Policy | None",
    as_json: bool,
) -> None:
    """Complete one place in a file. Lines and columns count from 1. MODEL is what `starsmith serve` takes."""
    from starsmith.inference.engine import never
    from starsmith.serving.opening import Loading
    from starsmith.serving.prompt import editor_request, language_of
    from starsmith.serving.service import Job

    prefix, suffix = split_at(read_text(file), line, column, where=str(file))
    loading = Loading(weights=weights, kv_tokens=kv_tokens)
    targets = () if target is None else (target,)
    model = directory_of(targets, loading)
    service = open_targets(targets, model, index=index, model_id=None, policy=attribution, loading=loading)
    with closing(service):
        request = editor_request(prefix, suffix, language=language_of(file.name), max_tokens=max_tokens)
        (finished,) = service.complete([Job(0, request, before=prefix)], never)
        if as_json:
            click.echo(json.dumps(to_json(finished, service), ensure_ascii=False))
        else:
            show(finished)


def directory_of(targets: Sequence[str], loading: "Loading") -> Path | None:
    """The model directory to serve, the starter model where nothing is named; None: the targets are backends."""
    from starsmith.inference.backends.targets import is_backend
    from starsmith.serving.starter import starter_directory

    backends = [target for target in targets if is_backend(target)]
    if not backends and len(targets) <= 1:
        check_directory(targets)
        return Path(targets[0]) if targets else starter_directory()
    if len(backends) < len(targets):
        raise click.UsageError("several TARGETs must be .gguf files or addresses: http://HOST:PORT/v1")
    given = {
        "--weights": loading.weights != "auto",
        "--kv-tokens": loading.kv_tokens,
        "--repository": loading.repositories,
    }
    if ours := [name for name, value in given.items() if value]:
        raise click.UsageError(f"{' and '.join(ours)} are for a model's directory: {backends[0]} sees to that itself")
    return None


def check_directory(targets: Sequence[str]) -> None:
    """Refuse an address without its scheme, which would be looked for on the disk."""
    for target in targets:
        if LOOKS_LIKE_SERVER.fullmatch(target) and not Path(target).exists():
            raise click.UsageError(f"{target} does not exist; if it is an address, write http://{target}")


def open_targets(
    targets: Sequence[str],
    model: Path | None,
    *,
    index: Path | None,
    model_id: str | None,
    policy: "Policy | None",
    loading: "Loading",
) -> "Service":
    """Open the model directory or, where there is none, the backends."""
    from starsmith.serving.opening import open_backend_service, open_service

    if model is None:
        return open_backend_service(targets, index=index, model_id=model_id, policy=policy, permissive=permissive)
    index = choose_index(model, index)
    return open_service(model, index=index, model_id=model_id, policy=policy, permissive=permissive, loading=loading)


@lru_cache(maxsize=4096)
def permissive(expression: str) -> bool:
    """Whether an SPDX expression is permissive, by the lists that a corpus is built with by default."""
    from starsmith.corpus.policy import LicensePolicy

    return bool(expression) and not LicensePolicy().objection(expression)


def check_options(token: str | None, log: Path | None, *, log_text: bool) -> None:
    """Refuse what would lock nobody out, or keep nothing."""
    from starsmith.core.errors import ConfigError

    if token is not None and not token.strip():
        raise ConfigError("--token is empty, so it would lock nobody out", hint="give a long random text")
    if log_text and log is None:
        raise click.UsageError("--log-text goes with --log FILE")


def choose_index(model: Path, index: Path | None) -> Path | None:
    """The given index, or the one that belongs to the model, and a word about it."""
    from starsmith.core.console import note
    from starsmith.serving.cards import find_index

    if index is None and (index := find_index(model)) is not None:
        note(f"using {index}, the index of the corpus this model was trained on")
    return index


def listen(host: str, port: int) -> socket.socket:
    """A socket bound to the address, before anything slow is loaded."""
    from starsmith.core.errors import InputError

    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
        except OSError:
            listener.close()
            raise
        return listener
    except OSError as error:
        reason = error.strerror or str(error)
        hint = f"choose another: --port {port + 1}" if 0 < port < 65535 else "choose another --host or --port"
        raise InputError(f"cannot listen on {host} port {port}: {reason.lower()}", hint=hint) from None


def welcome(service: "Service", url: str) -> str:
    """What a person needs to know to connect."""
    key = "a token of the file" if service.clients else "the token you gave" if service.token else "any"
    card = service.card
    lines = [
        f"{card.id}: {', '.join([*_about(card), _attribution(service)])}",
        *(f"  withdrawn            {taint}" for taint in [service.taints.header()] if taint),
        f"  page for people      {url}/",
        f"  Tabby plugins        endpoint {url}",
        f"  OpenAI clients       base URL {url}/v1   model {card.id}   key: {key}",
        *_about_log(service.log),
        "press Ctrl-C to stop",
    ]
    return "\n".join(lines)


def _about(card: "ModelCard") -> list[str]:
    """The size and the backend, as far as they are known."""
    size = [] if card.parameters is None else [f"{card.parameters:,} parameters"]
    return [*size, *([] if card.backend is None else [f"by {card.backend}"])]


def _attribution(service: "Service") -> str:
    if service.index_id is None:
        return "no index: completions come without their sources (--index DIR)"
    return f"attribution {service.rules.policy} by index {service.index_id[:16]}"


def _about_log(log: "CompletionLog | None") -> list[str]:
    if log is None:
        return []
    told = [f"  log                  {log.path}, {log.lines:,} lines so far"]
    if log.set_aside is not None:
        told.append(
            f"  the log's last line was cut short, by a crash perhaps: what there was of it is in {log.set_aside}"
        )
    return told


def read_text(file: Path) -> str:
    """The file's text with its own line ends."""
    from starsmith.core.errors import InputError

    try:
        return file.read_bytes().decode("utf-8")
    except FileNotFoundError:
        raise InputError(f"{file} does not exist", hint="give the file to complete in with --file") from None
    except IsADirectoryError:
        raise InputError(f"{file} is a directory", hint="give the file to complete in with --file") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{file} is not UTF-8 at byte {error.start}", hint="convert it to UTF-8") from None
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror}", hint="give the file to complete in") from None


def split_at(text: str, line: int, column: int, *, where: str) -> tuple[str, str]:
    """The text before and after a cursor; line and column count from 1, in characters."""
    from starsmith.core.errors import InputError

    lines = text.split("\n")
    if line > len(lines):
        raise InputError(f"{where} has {len(lines)} lines, not {line}", hint=f"--line from 1 to {len(lines)}")
    length = len(lines[line - 1].removesuffix("\r"))
    if column > length + 1:
        raise InputError(
            f"line {line} of {where} has {length} characters, so no column {column}",
            hint=f"--column from 1 to {length + 1}",
        )
    place = sum(len(before) + 1 for before in lines[: line - 1]) + column - 1
    return text[:place], text[place:]


def to_json(finished: "Finished", service: "Service") -> dict[str, Any]:
    """The completion and its attribution, for machines."""
    from starsmith.serving.answers import provenance_json

    return {
        "text": finished.text,
        "finish_reason": finished.finish_reason,
        "prompt_tokens": finished.usage.prompt_tokens if finished.usage else None,
        "completion_tokens": tokens_written(finished),
        "starsmith": provenance_json(finished.attribution, service),
    }


def tokens_written(finished: "Finished") -> int | None:
    """How long a completion is; None where a backend told neither a count nor the tokens."""
    return finished.usage.completion_tokens if finished.usage else len(finished.tokens) or None


def show(finished: "Finished") -> None:
    """The completion and its sources, for people."""
    from starsmith.core.console import table

    found = finished.attribution
    click.echo(finished.text)
    count = tokens_written(finished)
    size = "" if count is None else f"{count} tokens, "
    click.echo(f"\n{size}ended by {finished.finish_reason}")
    if found is None:
        click.echo("sources: not looked for; give --index DIR")
    elif not found.findings:
        click.echo("sources: no file of the corpus shares code with it")
    else:
        columns = ("characters", "kind", "places", "file", "lines", "licence", "repository")
        matches = [finding.to_json() for finding in found.findings]
        table("sources", columns, [row for match in matches for row in source_rows(match)])


def source_rows(match: dict[str, Any]) -> list[tuple[object, ...]]:
    """One row for each file a match goes back to; the match is described in the first."""
    rows: list[tuple[object, ...]] = []
    for number, source in enumerate(match["sources"] or [{}]):
        kind = f"{match['kind']}, blocked" if match["blocked"] else match["kind"]
        about = ("", "", "") if number else (f"{match['start']}-{match['end']}", kind, match["count"])
        lines = f"{source['first_line']}-{source['last_line']}" if source else ""
        rows.append((*about, source.get("path", ""), lines, source.get("license", ""), source.get("repository", "")))
    return rows


def _url(host: str, port: int) -> str:
    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)  # noqa: S104
    return f"http://{shown}:{port}"
