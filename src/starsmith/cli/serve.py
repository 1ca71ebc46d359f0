"""`starsmith serve` and `starsmith complete`."""

import json
import socket
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from starsmith.cli.options import DIRECTORY

if TYPE_CHECKING:
    from starsmith.serving.service import Finished, Service

index_option = click.option(
    "--index", type=DIRECTORY, help="Fingerprint index; by default the one beside MODEL of the same corpus."
)


@click.command()
@click.argument("model", type=DIRECTORY)
@index_option
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=8080, show_default=True, help="0 takes a free one.")
@click.option("--model-id", help="Name of the model in every protocol; by default made from the directory's.")
@click.option("--token", envvar="STARSMITH_TOKEN", help="Let in only who sends it (or set STARSMITH_TOKEN).")
def serve(model: Path, index: Path | None, host: str, port: int, model_id: str | None, token: str | None) -> None:
    """Serve MODEL to editors, SDKs and browsers."""
    import uvicorn

    from starsmith.core.console import note
    from starsmith.serving.app import create_app
    from starsmith.serving.auth import hosts_of
    from starsmith.serving.service import open_service

    with listen(host, port) as listener:
        index = choose_index(model, index)
        service = open_service(model, index=index, model_id=model_id, token=token)
        listener.listen()  # who connects from now on is answered, if a moment later
        note(welcome(service, _url(host, listener.getsockname()[1]), index))
        app = create_app(service, hosts=hosts_of(host, token))
        config = uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=2)
        with suppress(KeyboardInterrupt):  # uvicorn raises it again after its orderly end
            uvicorn.Server(config).run(sockets=[listener])


@click.command()
@click.argument("model", type=DIRECTORY)
@click.option("--file", "file", type=DIRECTORY, required=True, help="Source file to complete in.")
@click.option("--line", type=click.IntRange(1), required=True, help="Line of the cursor; the first is 1.")
@click.option("--column", type=click.IntRange(1), required=True, help="Column, in characters; before the first is 1.")
@click.option("--max-tokens", type=click.IntRange(1), default=64, show_default=True, help="End after so many.")
@index_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def complete(
    model: Path, file: Path, line: int, column: int, max_tokens: int, index: Path | None, as_json: bool
) -> None:
    """Complete one place in a file. Lines and columns count from 1."""
    from starsmith.inference.engine import never
    from starsmith.serving.prompt import editor_request, language_of
    from starsmith.serving.service import Job, open_service

    prefix, suffix = split_at(read_text(file), line, column, where=str(file))
    service = open_service(model, index=choose_index(model, index), model_id=None)
    request = editor_request(prefix, suffix, language=language_of(file.name), max_tokens=max_tokens)
    (finished,) = service.complete([Job(0, request, before=prefix)], never)
    if as_json:
        click.echo(json.dumps(to_json(finished, service), ensure_ascii=False))
    else:
        show(finished)


def choose_index(model: Path, index: Path | None) -> Path | None:
    """The given index, or the one that belongs to the model, and a word about it."""
    from starsmith.core.console import note
    from starsmith.serving.service import find_index

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


def welcome(service: "Service", url: str, index: Path | None) -> str:
    """What a person needs to know to connect."""
    key = "the token you gave" if service.token else "any"
    sources = f"sources from {index}" if index else "no index: completions come without their sources (--index DIR)"
    return "\n".join(
        [
            f"{service.card.id}: {service.card.parameters:,} parameters, {sources}",
            f"  page for people      {url}/",
            f"  Tabby plugins        endpoint {url}",
            f"  OpenAI clients       base URL {url}/v1   model {service.card.id}   key: {key}",
            "press Ctrl-C to stop",
        ]
    )


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
    """The completion and its sources, for machines."""
    from starsmith.serving.answers import provenance_json

    completion = finished.completion
    return {
        "text": completion.text,
        "finish_reason": completion.finish_reason,
        "prompt_tokens": completion.prompt_tokens,
        "completion_tokens": completion.completion_tokens,
        **provenance_json(finished.sources, service.card),
    }


def show(finished: "Finished") -> None:
    """The completion and its sources, for people."""
    from starsmith.core.console import table

    click.echo(finished.completion.text)
    click.echo(f"\n{finished.completion.completion_tokens} tokens, ended by {finished.completion.finish_reason}")
    if finished.sources is None:
        click.echo("sources: not looked for; give --index DIR")
    elif not finished.sources:
        click.echo("sources: no file of the corpus shares code with it")
    else:
        columns = ("characters", "kind", "places", "file", "lines", "licence", "repository")
        table("sources", columns, [row for match in finished.sources for row in source_rows(match)])


def source_rows(match: dict[str, Any]) -> list[tuple[object, ...]]:
    """One row for each file a match goes back to; the match is described in the first."""
    rows: list[tuple[object, ...]] = []
    for number, source in enumerate(match["sources"] or [{}]):
        about = ("", "", "") if number else (f"{match['start']}-{match['end']}", match["kind"], match["count"])
        lines = f"{source['first_line']}-{source['last_line']}" if source else ""
        rows.append((*about, source.get("path", ""), lines, source.get("license", ""), source.get("repository", "")))
    return rows


def _url(host: str, port: int) -> str:
    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)  # noqa: S104
    return f"http://{shown}:{port}"
