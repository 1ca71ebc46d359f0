"""A Service becomes a web application: both completion protocols, the lists and health checks, and the page."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import FileResponse, Response
from fastapi.staticfiles import StaticFiles
from pydantic import Discriminator, Tag
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

import starsmith
from starsmith.core.errors import StarsmithError
from starsmith.serving import errors, openai_api, tabby_api
from starsmith.serving.answers import PROVENANCE_HEADERS
from starsmith.serving.auth import Door, require_token
from starsmith.serving.errors import ApiError
from starsmith.serving.openai_api import CompletionBody
from starsmith.serving.service import Service
from starsmith.serving.tabby_api import TabbyBody

PAGE = Path(__file__).parent / "page"

# Pages of other programs on this machine (a notebook, an editor in the browser) may ask; pages of the web may not.
LOCAL_ORIGINS = r"https?://(localhost|127\.0\.0\.1|\[::1\])(:\d+)?"

MAX_SOURCE_LINES = 2_000
MAX_SOURCE_CHARACTERS = 200_000  # a line may be a megabyte long

router = APIRouter()


def protocol(body: Any) -> str | None:
    """Both protocols have `POST /v1/completions`; their bodies tell them apart."""
    if not isinstance(body, dict):
        return None
    return "tabby" if "segments" in body else "openai" if "prompt" in body else None


Body = Annotated[
    Annotated[TabbyBody, Tag("tabby")] | Annotated[CompletionBody, Tag("openai")],
    Discriminator(
        protocol,
        custom_error_type="neither_protocol",
        custom_error_message="the body has neither `prompt` (OpenAI's protocol) nor `segments` (Tabby's)",
    ),
]


def create_app(service: Service, *, hosts: frozenset[str] | None = None) -> FastAPI:
    """The application; `hosts` are the names it answers under, None for any."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        service.close()

    app = FastAPI(title="Starsmith", version=starsmith.__version__, docs_url=None, redoc_url=None, lifespan=lifespan)
    app.state.service = service
    app.include_router(router, dependencies=[Depends(require_token)])
    app.include_router(tabby_api.router, dependencies=[Depends(require_token)])
    app.add_api_route("/health", alive)
    app.add_api_route("/", index_page, include_in_schema=False)
    app.mount("/page", StaticFiles(directory=PAGE))
    app.add_middleware(
        CORSMiddleware,
        allow_origin_regex=LOCAL_ORIGINS,
        allow_methods=["GET", "POST"],
        allow_headers=["*"],
        expose_headers=list(PROVENANCE_HEADERS),
    )
    app.add_middleware(Door, hosts=hosts)
    for kind in (HTTPException, StarsmithError, Exception):
        app.add_exception_handler(kind, errors.answer_error)
    for status in (404, 405):
        app.add_exception_handler(status, errors.answer_no_route)
    app.add_exception_handler(RequestValidationError, errors.answer_invalid_body)
    app.add_exception_handler(ClientDisconnect, errors.answer_nobody)
    return app


async def alive() -> dict[str, str]:
    """The model is loaded and the server answers."""
    return {"status": "ok"}


async def index_page() -> FileResponse:
    """The page for people."""
    return FileResponse(PAGE / "index.html", headers={"Cache-Control": "no-cache"})


@router.post("/v1/completions")
async def completions(request: Request, body: Body) -> Response:
    """Complete code, in OpenAI's protocol or in Tabby's."""
    service: Service = request.app.state.service
    if isinstance(body, TabbyBody):
        return await tabby_api.answer(request, service, body)
    return await openai_api.answer(request, service, body)


@router.get("/v1/models")
async def models(request: Request) -> dict[str, Any]:
    """The one model that is served, in OpenAI's list."""
    return {"object": "list", "data": [model_json(request.app.state.service)]}


@router.get("/v1/models/{model_id}")
async def model(request: Request, model_id: str) -> dict[str, Any]:
    """The served model, by its name."""
    service: Service = request.app.state.service
    if model_id != service.card.id:
        raise ApiError(
            404,
            f"there is no model {model_id!r} here; it serves {service.card.id!r}",
            param="model",
            code="model_not_found",
        )
    return model_json(service)


def model_json(service: Service) -> dict[str, Any]:
    """OpenAI's fields of a model, and what is known of its provenance."""
    return {
        "id": service.card.id,
        "object": "model",
        "created": service.card.created,
        "owned_by": "starsmith",
        "starsmith": {
            "artefact": service.card.artefact,
            "index": service.index_id,
            "tainted": [taint.to_json() for taint in service.taints.read()],
        },
    }


@router.get("/v1/starsmith/source")
def source(
    request: Request,
    swhid: Annotated[str, Query(max_length=64)],
    first: Annotated[int, Query(ge=1)],
    last: Annotated[int, Query(ge=1)],
) -> dict[str, Any]:
    """Lines of a training file that an attribution named, as the index has them."""
    service: Service = request.app.state.service
    if last < first or last - first >= MAX_SOURCE_LINES:
        raise ApiError(400, f"last: {first} to {last} is not 1 to {MAX_SOURCE_LINES} lines", param="last")
    if service.attributor is None or service.policy_of(request.state.client) == "off":
        raise ApiError(404, "attribution is off, so no source is shown", code="attribution_off")
    text = service.attributor.source_text(swhid, first, last)
    if text is None:
        raise ApiError(404, f"the index has no file {swhid!r}", param="swhid", code="source_not_found")
    return {
        "swhid": swhid,
        "first_line": first,
        "text": text[:MAX_SOURCE_CHARACTERS],
        "cut": len(text) > MAX_SOURCE_CHARACTERS,
    }
