"""What stands on the command line becomes a backend: a GGUF file, an address, or several of them.

code.gguf                                     llama.cpp in this process
http://gpu1:8000/v1                           an OpenAI-compatible server
http://gpu1:8000/v1#template=qwen&key=GPUS    the same, with settings behind a #

Settings of an address: `model` (its name there), `template` (family of the model, see `templates`), `key` (the
environment variable that holds the key), `context` (tokens), `first_token_s` and `next_token_s` (how long to wait).
Settings of a file: `template`, `context`, `parallel` (requests at once), `threads`.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import TypeVar
from urllib.parse import parse_qsl

from starsmith.core.errors import ConfigError
from starsmith.inference.backends import templates
from starsmith.inference.backends.balancer import Backend, Balancer
from starsmith.inference.backends.event_streams import Timeouts
from starsmith.inference.backends.llama_cpp import LlamaCppBackend, LlamaCppConfig
from starsmith.inference.backends.openai import OpenAIBackend, Upstream

N = TypeVar("N", int, float)

SCHEMES = ("http://", "https://")
SUFFIX = ".gguf"
OF_ADDRESS = ("model", "template", "key", "context", "first_token_s", "next_token_s")
OF_FILE = ("template", "context", "parallel", "threads")


def is_backend(target: str) -> bool:
    """Whether this names a backend, and not a directory of ours."""
    return target.lower().startswith(SCHEMES) or target.partition("#")[0].lower().endswith(SUFFIX)


def open_backend(targets: Sequence[str]) -> LlamaCppBackend | Balancer:
    """Open them all; several, or one that is not in this process, behind a `Balancer`."""
    opened: list[Backend] = []
    try:
        for target in targets:
            opened.append(_open(target))
        if len(opened) == 1 and isinstance(opened[0], LlamaCppBackend):
            return opened[0]
        return Balancer(opened)
    except BaseException:
        for backend in opened:
            backend.close()
        raise


def _open(target: str) -> LlamaCppBackend | OpenAIBackend:
    if target.lower().startswith(SCHEMES):
        return OpenAIBackend(upstream_of(target))
    if not is_backend(target):
        raise ConfigError(f"{target} is no backend", hint="give a .gguf file or an address: http://HOST:PORT/v1")
    path, settings = _split(target, OF_FILE)
    config = LlamaCppConfig(
        context_tokens=_number(settings, "context", int, target),
        threads=_number(settings, "threads", int, target),
        template=templates.named(settings["template"]) if "template" in settings else None,
    )
    parallel = _number(settings, "parallel", int, target)
    return LlamaCppBackend(Path(path), config if parallel is None else replace(config, parallel=parallel))


def upstream_of(target: str) -> Upstream:
    """The address and the settings behind its #."""
    url, settings = _split(target, OF_ADDRESS)
    waits = {name: _number(settings, name, float, target) for name in ("first_token_s", "next_token_s")}
    return Upstream(
        url=url.rstrip("/"),
        model=settings.get("model"),
        template=templates.named(settings["template"]) if "template" in settings else None,
        key_variable=settings.get("key"),
        context_tokens=_number(settings, "context", int, target),
        timeouts=Timeouts(**{name: wait for name, wait in waits.items() if wait is not None}),
    )


def _split(target: str, known: Sequence[str]) -> tuple[str, dict[str, str]]:
    """What stands before the #, and the settings behind it."""
    place, _, fragment = target.partition("#")
    settings = dict(parse_qsl(fragment))
    if fragment and len(settings) != fragment.count("&") + 1:
        raise ConfigError(f"{place}: {fragment!r} are no settings", hint="write NAME=VALUE&NAME=VALUE behind the #")
    for name in settings:
        if name not in known:
            near = get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
            raise ConfigError(f"{place} has no setting {name!r}", hint=hint)
    return place, settings


def _number(settings: dict[str, str], name: str, kind: Callable[[str], N], target: str) -> N | None:
    if name not in settings:
        return None
    try:
        return kind(settings[name])
    except ValueError:
        raise ConfigError(f"{target}: {name}={settings[name]!r} is no number", hint=f"write {name}=NUMBER") from None
