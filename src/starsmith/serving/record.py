"""What the log of completions says of each: who got it, from which model, and what it shares with the corpus."""

import hashlib
from typing import TYPE_CHECKING, Any

from starsmith.provenance.completion_log import COMPLETION, CompletionLog
from starsmith.serving.attribution import Finding
from starsmith.serving.errors import ApiError

if TYPE_CHECKING:
    from starsmith.serving.service import Asker, Job, Piece, Service


def line_of(service: "Service", asker: "Asker", job: "Job", text: str, last: "Piece") -> dict[str, Any]:
    """The record of one choice of an answer; `text` is what left of it, `last` its last piece."""
    found = last.attribution
    given = {"prompt": job.prompt, "suffix": job.suffix, "completion": text}
    texts = {name: content for name, content in given.items() if content is not None}
    return {
        "event": COMPLETION,
        "id": asker.answer,
        "choice": job.index,
        "client": asker.client,
        "model": {"id": service.card.id, "artefact": service.card.artefact},
        "index": service.index_id,
        "policy": asker.policy,
        "finish_reason": last.finish_reason,
        **{f"{name}_sha256": digest(content) for name, content in texts.items()},
        **({"texts": texts} if service.log_text else {}),
        "matches": None if found is None else [match_of(finding) for finding in found.findings],
        "attribution_ms": None if found is None else found.milliseconds,
        "tainted": service.taints.requests(),
    }


def match_of(finding: Finding) -> dict[str, Any]:
    """What the log has of a match: enough to find its files again."""
    sources = finding.match.sources
    return {
        "kind": finding.match.kind,
        "tokens": finding.match.tokens,
        "places": finding.match.count,
        "swhids": list(dict.fromkeys(source.swhid for source in sources)),
        "licences": list(dict.fromkeys(source.license for source in sources)),
        "blocked": finding.blocked,
    }


def digest(text: str) -> str:
    """The sha256 of a text in UTF-8."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def write(log: CompletionLog, record: dict[str, Any]) -> None:
    """Add a record; a completion that cannot be logged is not given."""
    try:
        log.append(record)
    except OSError as error:
        message = f"the completion could not be logged ({error.strerror}), so it is not given"
        raise ApiError(503, message, code="log_failed") from None
