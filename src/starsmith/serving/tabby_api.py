"""Tabby's protocol, which its editor plugins and tabby-agent speak: health, settings, completions, events.

Of a request's `segments` the model sees the text around the cursor and, in front of it as the files of a repository,
declarations and snippets from other files. The clipboard and the edit history are read past.
"""

import os
import platform
from dataclasses import asdict
from typing import Any, Literal

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, Field

import starsmith
from starsmith.serving import answers
from starsmith.serving.clients import Client
from starsmith.serving.prompt import EDITOR_MANNERS, NO_EXTRAS, Extras, Text, User, editor_request
from starsmith.serving.service import Finished, Job, Service
from starsmith.serving.sessions import session_of
from starsmith.serving.worker import until_hang_up
from starsmith.tokenizer.fim import Repository
from starsmith.tokenizer.repositories import name_of

# The version of Tabby's protocol that this server speaks. Without a `version` object tabby-agent 1.5.0 exits; below
# 0.9.0 plugins skip the settings. Chat panels ask for `webserver`, Tabby's own web pages, which are not here.
PROTOCOL_VERSION = "v0.32.0"

MOST_SNIPPETS = 32  # of each kind; only a third of a prompt is for them
SNIPPET_CHARACTERS = 8_000  # of one that are used

router = APIRouter()


class Snippet(BaseModel):
    """A piece of another file."""

    filepath: Text
    body: Text
    score: float = 0.0  # declarations have none


class Segments(BaseModel):
    """The text around the cursor, and where it stands."""

    prefix: Text
    suffix: Text | None = None
    filepath: Text | None = None
    git_url: Text | None = None
    declarations: list[Snippet] | None = None
    relevant_snippets_from_changed_files: list[Snippet] | None = None
    relevant_snippets_from_recently_opened_files: list[Snippet] | None = None


class TabbyBody(BaseModel):
    """Body of `POST /v1/completions` in Tabby's form. Other fields of the protocol are accepted and not used."""

    segments: Segments
    language: str | None = None  # LSP's identifier, for example "typescriptreact"
    temperature: float = Field(0.0, ge=0, le=2)
    seed: int | None = Field(None, ge=0, lt=2**63)
    mode: Literal["standard"] = "standard"
    user: User | None = None
    starsmith: Extras = NO_EXTRAS


class EventBody(BaseModel):
    """What an editor tells about a completion: it was shown, taken or dismissed."""

    type: Literal["view", "select", "dismiss"]
    completion_id: str
    choice_index: int = 0
    view_id: str | None = None
    elapsed: int | None = None  # milliseconds since it was shown
    select_kind: Literal["line", "block"] | None = None


async def answer(request: Request, service: Service, body: TabbyBody) -> Response:
    """Answer a completion request: one choice, never streamed."""
    place = f"{body.segments.git_url or ''} {body.segments.filepath or ''}"
    jobs = [job_of(body, service, session_of(request, request.state.client, user=body.user, place=place))]
    head = answers.envelope(service.card)
    asker = service.asker(request.state.client, head["id"])
    run = service.worker.start(lambda cancelled: service.complete(jobs, cancelled, asker))

    async def finish() -> list[Finished]:
        return [finished async for finished in run]

    finished = await until_hang_up(request, finish())
    choices = [answers.choice_json(done, service) for done in finished]
    return JSONResponse(
        {**head, "choices": choices, "usage": answers.usage_json([done.usage for done in finished]), "mode": body.mode},
        headers=answers.provenance_headers(service, asker, [done.attribution for done in finished]),
    )


def job_of(body: TabbyBody, service: Service, session: str) -> Job:
    """What to ask the model."""
    prefix, suffix = body.segments.prefix, body.segments.suffix or ""
    request = editor_request(
        prefix,
        suffix,
        language=body.language,
        temperature=body.temperature,
        seed=body.seed,
        manners=body.starsmith.manners_or(EDITOR_MANNERS),
        repository=service.contexts.settle(session, prefix, suffix, repository_of(body.segments)),
        session=session,
    )
    return Job(0, request, before=prefix, prompt=prefix, suffix=body.segments.suffix)


def repository_of(segments: Segments) -> Repository:
    """The file's name and what was sent of others; the most useful come last, next to the cursor's file."""
    name = name_of(segments.git_url) if segments.git_url and segments.filepath else None
    opened = segments.relevant_snippets_from_recently_opened_files or []
    changed = segments.relevant_snippets_from_changed_files or []
    groups = (opened, changed, segments.declarations or [])
    ordered = [snippet for group in groups for snippet in sorted(group[:MOST_SNIPPETS], key=lambda one: one.score)]
    files = tuple((snippet.filepath, snippet.body[:SNIPPET_CHARACTERS]) for snippet in ordered)
    return Repository(name or None, segments.filepath or "", files)


@router.get("/v1/health")
@router.post("/v1/health", operation_id="health_by_post")
async def health(request: Request) -> dict[str, Any]:
    """What editor plugins ask first, and again after every error."""
    service: Service = request.app.state.service
    return health_json(service, request.state.client)


def health_json(service: Service, client: Client) -> dict[str, Any]:
    """Tabby's fields, and ours under `starsmith`."""
    card = service.card
    return {
        "model": card.id,
        "device": card.device,
        "cuda_devices": [],
        "models": {"completion": {"local": {"model_id": card.id, "device": card.device}}},
        "arch": platform.machine(),
        "cpu_info": platform.processor() or platform.machine(),
        "cpu_count": os.cpu_count() or 1,
        "webserver": False,
        "version": {
            "build_date": "",
            "build_timestamp": "",
            "git_sha": f"starsmith-{starsmith.__version__}",
            "git_describe": PROTOCOL_VERSION,
        },
        "starsmith": {
            "version": starsmith.__version__,
            "artefact": card.artefact,
            "parameters": card.parameters,
            "context_tokens": service.context_tokens,
            "backend": card.backend,
            "upstreams": [asdict(upstream) for upstream in service.upstreams()],
            "attribution": service.policy_of(client),
            "index": service.index_id,
            "tainted": [taint.to_json() for taint in service.taints.read()],
            "licenses": card.licenses,
            "events": dict(service.events),
            "completions": service.counts,
        },
    }


@router.get("/v1beta/server_setting")
async def server_setting() -> dict[str, bool]:
    """Ask editors to keep their usage data to themselves."""
    return {"disable_client_side_telemetry": True}


@router.get("/v1beta/models")
async def models(request: Request) -> dict[str, list[str]]:
    """Model names by use."""
    service: Service = request.app.state.service
    return {"completion": [service.card.id], "chat": []}


@router.post("/v1/events")
async def events(request: Request, body: EventBody) -> Response:
    """Count what became of a completion."""
    service: Service = request.app.state.service
    service.events[body.type] += 1
    return Response()
