"""OpenAI's completions: a body becomes jobs, their results an answer or a stream of server-sent events.

What the API has and this server lacks (penalties, logit_bias, best_of above n) is refused by name, not ignored.
Where no `suffix` is given, control tokens written in `prompt` count as such: that is how Continue and llm-ls infill.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Annotated, Any

from fastapi import Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, Field, StringConstraints

from starsmith.inference.completion import CompletionRequest
from starsmith.inference.engine import GeneratedToken, SamplingParams
from starsmith.inference.trimming import NO_MANNERS
from starsmith.serving import answers
from starsmith.serving.errors import ApiError, error_json, from_exception
from starsmith.serving.prompt import EDITOR_LAYOUT, NO_EXTRAS, Extras, Text, has_control_tokens
from starsmith.serving.service import Asker, Finished, Job, Piece, Service
from starsmith.serving.worker import EventStream, Run, until_hang_up
from starsmith.tokenizer import fim
from starsmith.tokenizer.bpe import Tokenizer
from starsmith.tokenizer.fim import STOP_TOKENS

MAX_CHOICES = 128  # prompts times n in one request
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
    starsmith: Extras = NO_EXTRAS


async def answer(request: Request, service: Service, body: CompletionBody) -> Response:
    """Answer a completion request."""
    refuse_unsupported(body, service.card.id)
    jobs = await asyncio.to_thread(jobs_of, body, service.tokenizer, service.engine.context_tokens)
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
            "usage": answers.usage_of(finished),
        },
        headers=answers.provenance_headers(service, asker, [done.attribution for done in finished]),
    )


def refuse_unsupported(body: CompletionBody, served: str) -> None:
    """Raise for what this server cannot do, naming the field."""
    if body.model is not None and body.model != served:
        raise ApiError(
            404, f"there is no model {body.model!r} here; it serves {served!r}", param="model", code="model_not_found"
        )
    for name in ("presence_penalty", "frequency_penalty", "logit_bias"):
        if getattr(body, name):
            raise ApiError(400, f"{name} is not supported", param=name, code="unsupported_parameter")
    if body.best_of not in (None, body.n):
        raise ApiError(
            400, "best_of is not supported, unless equal to n", param="best_of", code="unsupported_parameter"
        )
    if body.echo and body.suffix is not None:
        raise ApiError(400, "echo does not go with suffix", param="echo")
    if body.echo and body.logprobs is not None and body.stream:
        raise ApiError(400, "logprobs of an echoed prompt are not streamed", param="stream")


def jobs_of(body: CompletionBody, tokenizer: Tokenizer, context_tokens: int) -> list[Job]:
    """One job for each prompt and each of its n choices, in the order of their indexes."""
    prompts = prompts_of(body)
    if len(prompts) * body.n > MAX_CHOICES:
        raise ApiError(400, f"{len(prompts)} prompts with n={body.n}: at most {MAX_CHOICES} choices", param="prompt")
    jobs: list[Job] = []
    for prompt in prompts:
        request = request_of(body, prompt, tokenizer)
        text = prompt if isinstance(prompt, str) else answers.text_of(tokenizer, prompt)
        if body.suffix is None:
            check_room(request, context_tokens)
        before = "" if body.suffix is None and has_control_tokens(text) else text
        echo, scored = (text, body.logprobs is not None) if body.echo else ("", False)
        job = Job(0, request, before, echo, scored, text, body.suffix)
        jobs += [replace(job, index=len(jobs) + n, request=_seeded(request, n)) for n in range(body.n)]
    return jobs


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


def request_of(body: CompletionBody, prompt: Prompt, tokenizer: Tokenizer) -> CompletionRequest:
    """What to ask the model for one prompt: to go on behind its tokens or, given a suffix, to infill the text."""
    if not isinstance(prompt, str) and not all(0 <= token < tokenizer.vocab_size for token in prompt):
        raise ApiError(400, f"prompt: a token id is not in 0..{tokenizer.vocab_size - 1}", param="prompt")
    params = SamplingParams(
        max_tokens=body.max_tokens,
        temperature=body.temperature,
        top_p=body.top_p,
        seed=body.seed,
        top_logprobs=body.logprobs,
        stop_tokens=STOP_TOKENS,
    )
    return CompletionRequest(
        prefix=tokenizer.encode_prompt(prompt) if isinstance(prompt, str) and body.suffix is None else prompt,
        suffix=body.suffix,
        layout=EDITOR_LAYOUT,
        manners=body.starsmith.manners_or(NO_MANNERS),
        stop=(body.stop,) if isinstance(body.stop, str) else tuple(body.stop or ()),
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
    written: dict[int, list[GeneratedToken]] = {}  # by index of the choice
    read: dict[int, int] = {}  # tokens of its prompt
    try:
        async for piece in pieces:
            read[piece.job.index] = piece.prompt_tokens
            choice = _piece_choice(service, body, piece, written)
            if choice["text"] or choice["logprobs"] or choice["finish_reason"]:
                yield _event({**head, "choices": [choice], **usage})
    except Exception as error:  # noqa: BLE001 the status is sent already: all that is left is to tell the client
        told = from_exception(error)
        yield _event(error_json(told.status_code, told.detail, told.param, told.code))
        return
    if wants_usage:
        total = answers.usage_json(sum(read.values()), sum(len(tokens) for tokens in written.values()))
        yield _event({**head, "choices": [], "usage": total})
    yield "data: [DONE]\n\n"


def _piece_choice(
    service: Service, body: CompletionBody, piece: Piece, written: dict[int, list[GeneratedToken]]
) -> dict[str, Any]:
    """The choice of one chunk; adds its tokens to what is written of that choice."""
    text = piece.text if piece.job.index in written else piece.job.echo + piece.text
    tokens = written.setdefault(piece.job.index, [])
    table = None
    if body.logprobs is not None and piece.tokens:
        start = len(service.tokenizer.decode([token.id for token in tokens]))
        length = len(piece.text) if piece.finish_reason == "content_filter" else None
        table = answers.logprobs_json(service.tokenizer, piece.tokens, start=start, length=length)
    tokens.extend(piece.tokens)
    return answers.piece_json(piece, service, text, table)


def _event(value: dict[str, Any]) -> str:
    return f"data: {json.dumps(value, ensure_ascii=False)}\n\n"


def _logprobs(service: Service, body: CompletionBody, finished: Finished) -> dict[str, Any] | None:
    """Log-probabilities of a whole choice; an echoed prompt has its own, but no alternatives."""
    if body.logprobs is None:
        return None
    echoed = finished.scored_prompt
    start = len(finished.job.echo)
    table = answers.logprobs_json(service.tokenizer, finished.tokens, start=start, length=len(finished.text))
    if not echoed:
        return table
    front = answers.echo_logprobs_json(service.tokenizer, echoed)
    return {name: front[name] + table[name] for name in table}
