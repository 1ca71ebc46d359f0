"""OpenAI's completions: a body becomes jobs, their results an answer or a stream of server-sent events.

What the API has and this server lacks (penalties, logit_bias, best_of above n) is refused by name, not ignored.
Where no `suffix` is given, control tokens written in `prompt` count as such: that is how Continue and llm-ls infill.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Annotated, Any

from fastapi import Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, Field, StringConstraints

from starsmith.inference.completion import CompletionRequest
from starsmith.inference.engine import SamplingParams
from starsmith.inference.text_engine import Usage
from starsmith.inference.trimming import NO_MANNERS
from starsmith.serving import answers
from starsmith.serving.errors import ApiError, error_json, from_exception
from starsmith.serving.logprobs import Table, echo_logprobs_json, text_of
from starsmith.serving.prompt import EDITOR_LAYOUT, NO_EXTRAS, Extras, Text, User, has_control_tokens
from starsmith.serving.service import Asker, Finished, Job, Piece, Service
from starsmith.serving.sessions import session_of_user
from starsmith.serving.worker import EventStream, Run, until_hang_up
from starsmith.tokenizer import fim
from starsmith.tokenizer.fim import STOP_TOKENS

MAX_CHOICES = 128  # prompts times n in one request
UNSUPPORTED = "unsupported_parameter"
IDS = 2**31  # no vocabulary has more
StopText = Annotated[Text, StringConstraints(min_length=1, max_length=256)]
Prompt = str | list[int]


class StreamOptions(BaseModel):
    """What to add to a stream."""

    include_usage: bool = False


class CompletionBody(BaseModel):
    """Body of `POST /v1/completions` in OpenAI's form. Fields that the API does not have are ignored."""

    model: Text | None = None
    prompt: Text | list[Text] | list[int] | list[list[int]]
    suffix: Text | None = None
    max_tokens: int = Field(16, ge=0)
    temperature: float = Field(1.0, ge=0, le=2)
    top_p: float = Field(1.0, gt=0, le=1)
    n: int = Field(1, ge=1, le=MAX_CHOICES)
    stop: StopText | Annotated[list[StopText], Field(max_length=32)] | None = None
    stream: bool = False
    stream_options: StreamOptions | None = None
    logprobs: int | None = Field(None, ge=0, le=5)
    echo: bool = False
    seed: int | None = Field(None, ge=0, lt=2**63)
    best_of: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: dict[str, float] | None = None
    user: User | None = None
    starsmith: Extras = NO_EXTRAS


async def answer(request: Request, service: Service, body: CompletionBody) -> Response:
    """Answer a completion request."""
    refuse_unsupported(body, service)
    session = session_of_user(request, request.state.client, body.user) if is_typed(body) else None
    jobs = await asyncio.to_thread(jobs_of, body, service, session)
    head = answers.envelope(service.card)
    asker = service.asker(request.state.client, head["id"])
    if body.stream:
        return await _stream(request, service, body, jobs, head, asker)
    run = service.worker.start(lambda cancelled: service.complete(jobs, cancelled, asker))
    finished = await until_hang_up(request, collect(run))
    tables = [_logprobs(service, body, done) for done in finished]
    return JSONResponse(
        {
            **head,
            "choices": [
                answers.choice_json(done, service, table) for done, table in zip(finished, tables, strict=True)
            ],
            "usage": answers.usage_json([done.usage for done in finished]),
        },
        headers=answers.provenance_headers(service, asker, [done.attribution for done in finished]),
    )


def is_typed(body: CompletionBody) -> bool:
    """Whether somebody may be typing where this is asked, so that only the newest such question counts.

    Who asks for the middle of one text once. Several prompts or choices, or a text to go on with, come from programs,
    which may well have many questions at a time for the same user.
    """
    return body.suffix is not None and body.n == 1 and isinstance(body.prompt, str)


def refuse_unsupported(body: CompletionBody, service: Service) -> None:
    """Raise for what this server cannot do, naming the field."""
    served = service.card.id
    if body.model is not None and body.model != served:
        raise ApiError(
            404, f"there is no model {body.model!r} here; it serves {served!r}", param="model", code="model_not_found"
        )
    for name in ("presence_penalty", "frequency_penalty", "logit_bias"):
        if getattr(body, name):
            raise ApiError(400, f"{name} is not supported", param=name, code=UNSUPPORTED)
    if body.best_of not in (None, body.n):
        raise ApiError(400, "best_of is not supported, unless equal to n", param="best_of", code=UNSUPPORTED)
    if body.echo and body.suffix is not None:
        raise ApiError(400, "echo does not go with suffix", param="echo")
    if body.echo and body.logprobs is not None and body.stream:
        raise ApiError(400, "logprobs of an echoed prompt are not streamed", param="stream")
    if body.echo and service.tokenizer is None:
        refuse_echo(body)


def refuse_echo(body: CompletionBody) -> None:
    """Raise for what nobody can tell of a prompt whose model is elsewhere."""
    if body.logprobs is not None:
        raise ApiError(
            400, "echo does not go with logprobs here: a backend scores no prompt", param="echo", code=UNSUPPORTED
        )
    if not all(isinstance(prompt, str) for prompt in prompts_of(body)):
        raise ApiError(400, "echo needs prompts as text: the model is a backend's", param="echo", code=UNSUPPORTED)


def jobs_of(body: CompletionBody, service: Service, session: str | None = None) -> list[Job]:
    """One job for each prompt and each of its n choices, in the order of their indexes."""
    prompts = prompts_of(body)
    if len(prompts) * body.n > MAX_CHOICES:
        raise ApiError(400, f"{len(prompts)} prompts with n={body.n}: at most {MAX_CHOICES} choices", param="prompt")
    jobs: list[Job] = []
    for prompt in prompts:
        request = request_of(body, prompt, service, session)
        text = shown_text(prompt, service)
        if body.suffix is None and service.engine is not None:
            check_room(request, service.engine.context_tokens)
        has_controls = body.suffix is None and has_control_tokens(text, foreign=service.tokenizer is None)
        before = "" if has_controls or (service.tokenizer is None and not isinstance(prompt, str)) else text
        echo, scored = (text, body.logprobs is not None) if body.echo else ("", False)
        job = Job(0, request, before, echo, scored, text, body.suffix)
        jobs += [replace(job, index=len(jobs) + n, request=_seeded(request, n)) for n in range(body.n)]
    return jobs


def shown_text(prompt: Prompt, service: Service) -> str:
    """The prompt as text; ids of a vocabulary that is not known stay what they are."""
    if isinstance(prompt, str):
        return prompt
    return json.dumps(prompt) if service.tokenizer is None else text_of(service.tokenizer, prompt)


def check_room(request: CompletionRequest, context_tokens: int) -> None:
    """Refuse a prompt that would have to be cut, as the API does; of an infill what is far from the cursor may go."""
    if fim.is_infill([token for token in request.prefix if isinstance(token, int)]):
        return
    wanted = len(request.prefix) + request.params.max_tokens
    if wanted > context_tokens or len(request.prefix) == context_tokens:
        raise ApiError(
            400,
            f"prompt: {len(request.prefix)} tokens, and max_tokens={request.params.max_tokens}, "
            f"do not fit into a context of {context_tokens}",
            param="prompt",
            code="context_length_exceeded",
        )


def prompts_of(body: CompletionBody) -> list[Prompt]:
    """The prompts, whichever of the four forms they came in."""
    if isinstance(body.prompt, str):
        return [body.prompt]
    if not body.prompt:
        raise ApiError(400, "prompt: an empty list asks for nothing", param="prompt")
    ids = [part for part in body.prompt if isinstance(part, int)]
    return [ids] if ids else [part for part in body.prompt if not isinstance(part, int)]


def request_of(body: CompletionBody, prompt: Prompt, service: Service, session: str | None) -> CompletionRequest:
    """What to ask the model for one prompt: to go on behind its tokens or, given a suffix, to infill the text."""
    tokenizer = service.tokenizer
    ids = IDS if tokenizer is None else tokenizer.vocab_size
    if not isinstance(prompt, str) and not all(0 <= token < ids for token in prompt):
        raise ApiError(400, f"prompt: a token id is not in 0..{ids - 1}", param="prompt")
    prefix, is_raw = prompt, False
    if isinstance(prompt, str) and body.suffix is None:
        prefix, is_raw = prompt if tokenizer is None else tokenizer.encode_prompt(prompt), True
    params = SamplingParams(
        max_tokens=body.max_tokens,
        temperature=body.temperature,
        top_p=body.top_p,
        seed=body.seed,
        top_logprobs=body.logprobs,
        stop_tokens=STOP_TOKENS,
    )
    return CompletionRequest(
        prefix=prefix,
        suffix=body.suffix,
        special_tokens=is_raw,
        layout=EDITOR_LAYOUT,
        manners=body.starsmith.manners_or(NO_MANNERS),
        stop=(body.stop,) if isinstance(body.stop, str) else tuple(body.stop or ()),
        session=session,
        params=params,
    )


def _seeded(request: CompletionRequest, choice: int) -> CompletionRequest:
    """Each choice of a prompt draws its own random numbers."""
    seed = request.params.seed
    return request if seed is None else replace(request, params=replace(request.params, seed=seed + choice))


async def collect(run: Run[Finished]) -> list[Finished]:
    """All results of a run."""
    return [finished async for finished in run]


async def _stream(
    request: Request, service: Service, body: CompletionBody, jobs: list[Job], head: dict[str, Any], asker: Asker
) -> Response:
    """Wait for the first piece before answering, so that a refused prompt is a 400 and not a broken stream."""
    run = service.worker.start(lambda cancelled: service.stream(jobs, cancelled, asker))
    pieces = aiter(run)

    async def first() -> Piece:
        return await anext(pieces)

    opening = await until_hang_up(request, first())

    async def all_pieces() -> AsyncIterator[Piece]:
        yield opening
        async for piece in pieces:
            yield piece

    events = _events(service, body, all_pieces(), head)
    return EventStream(events, run, answers.provenance_headers(service, asker))


async def _events(
    service: Service, body: CompletionBody, pieces: AsyncIterator[Piece], head: dict[str, Any]
) -> AsyncIterator[str]:
    """The text of the stream, event by event."""
    wants_usage = body.stream_options is not None and body.stream_options.include_usage
    usage = {"usage": None} if wants_usage else {}
    written: dict[int, _Written] = {}  # by index of the choice
    try:
        async for piece in pieces:
            choice = _piece_choice(service, body, piece, written)
            if choice["text"] or choice["logprobs"] or choice["finish_reason"]:
                yield _event({**head, "choices": [choice], **usage})
    except Exception as error:  # noqa: BLE001 the status is sent already: all that is left is to tell the client
        told = from_exception(error)
        yield _event(error_json(told.status_code, told.detail, told.param, told.code))
        return
    if wants_usage:
        counts = [choice.usage for choice in written.values()]
        yield _event({**head, "choices": [], "usage": answers.usage_json(counts)})
    yield "data: [DONE]\n\n"


@dataclass
class _Written:
    """What has left of a choice."""

    table: Table
    characters: int = 0  # without an echo
    usage: Usage | None = None


def _piece_choice(service: Service, body: CompletionBody, piece: Piece, written: dict[int, _Written]) -> dict[str, Any]:
    """The choice of one chunk; adds it to what is written of that choice."""
    is_first = piece.job.index not in written
    choice = written.setdefault(piece.job.index, _Written(Table(service.tokenizer)))
    choice.characters += len(piece.text)
    choice.usage = piece.usage
    table = None
    if body.logprobs is not None and piece.tokens:
        table = choice.table.add(piece.tokens, end=choice.characters if piece.finish_reason else None)
    return answers.piece_json(piece, service, piece.job.echo + piece.text if is_first else piece.text, table)


def _event(value: dict[str, Any]) -> str:
    return f"data: {json.dumps(value, ensure_ascii=False)}\n\n"


def _logprobs(service: Service, body: CompletionBody, finished: Finished) -> dict[str, Any] | None:
    """Log-probabilities of a whole choice; an echoed prompt has its own, but no alternatives."""
    if body.logprobs is None or (finished.text and not finished.tokens):  # a backend may tell none
        return None
    start = len(finished.job.echo)
    table = Table(service.tokenizer, start=start).add(finished.tokens, end=start + len(finished.text))
    if not finished.scored_prompt or service.tokenizer is None:
        return table
    front = echo_logprobs_json(service.tokenizer, finished.scored_prompt)
    return {name: front[name] + table[name] for name in table}
