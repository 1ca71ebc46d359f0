"""How a model in training does on files that it does not see: measured now and then, in seconds, on fixed places.

Bits per byte of the beginnings of held-out documents, left to right, and the share of lines that are filled in as
they were. Both come from the tokens artefact that is trained on, and nothing is random: figures of one run can be
compared with each other, and with those of another run on the same tokens. They are small samples, to watch a run by;
`starsmith evaluate` is what to quote.
"""

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.nn import functional

from starsmith.core.records import HELD_OUT, SourceFile
from starsmith.evaluation.infilling import COMPLETION_TOKENS, Hole, choose_holes
from starsmith.inference.completion import Completer, CompletionRequest
from starsmith.inference.engine import SamplingParams
from starsmith.inference.local import engine_for
from starsmith.model.transformer import Transformer
from starsmith.tokenizer.bpe import SPECIAL_TOKENS, Tokenizer
from starsmith.tokenizer.fim import Layout
from starsmith.tokenizer.tokens import TokenStore

SCORED_TOKENS = 8192  # of all documents together
FORWARD_TOKENS = 4096  # in one forward pass, or one document
HOLES = 24
CONTEXT_TOKENS = 512  # around a hole, or the model's context where that is shorter


@dataclass(frozen=True)
class _Stretch:
    """The beginning of a document. Its first token is predicted from nothing and left out."""

    ids: list[int]
    size_bytes: int  # of ids[1:]


class Watch:
    """Measures a model on the held-out documents of a tokens artefact: the same places at each call.

    It runs the model itself and copies nothing, and leaves it in the mode (training or not) that it was in. In a run
    of many ranks that share the weights each of them must call it.
    """

    def __init__(self, tokens: Path, tokenizer: Tokenizer, *, context_tokens: int, holes: int = HOLES) -> None:
        store = TokenStore(tokens, vocab_size=tokenizer.vocab_size, split=HELD_OUT)
        self._tokenizer = tokenizer
        self._stretches = list(_stretches(store, tokenizer, context_tokens))
        self._holes = choose_holes(_texts(store, tokenizer, holes), holes)

    def __call__(self, model: Transformer) -> dict[str, float]:
        """The fields of a line of metrics; a figure that has nothing to be measured on is left out."""
        training = model.training
        model.eval()
        found: dict[str, float] = {}
        if self._stretches:
            found["held_out_bits_per_byte"] = self._bits_per_byte(model)
        if self._holes:
            found["held_out_exact_match"] = self._exact_match(model)
        model.train(training)
        return found

    @torch.inference_mode()
    def _bits_per_byte(self, model: Transformer) -> float:
        nats = math.fsum(_nats(model, pack) for pack in _packs(self._stretches))
        return nats / math.log(2) / sum(stretch.size_bytes for stretch in self._stretches)

    def _exact_match(self, model: Transformer) -> float:
        """Greedy, the line at most, every other hole in the other layout."""
        context = min(CONTEXT_TOKENS, model.config.max_position_embeddings)
        # Inline: ranks that share the weights must make the same steps.
        with engine_for(model, context_tokens=context, inline=True) as engine:
            completer = Completer(engine, self._tokenizer)
            exact = [_exact(completer, hole, "spm" if number % 2 else "psm") for number, hole in enumerate(self._holes)]
        return sum(exact) / len(exact)


def _exact(completer: Completer, hole: Hole, layout: Layout) -> bool:
    """Whether the model writes what was taken out; it is read no further than to the first difference."""
    params = SamplingParams(max_tokens=COMPLETION_TOKENS)
    request = CompletionRequest(prefix=hole.prefix, suffix=hole.suffix, layout=layout, stop=("\n",), params=params)
    truth, written, finished = hole.truth.rstrip(), "", False
    for chunk in completer.stream(request):
        written += chunk.text
        finished = chunk.finish_reason is not None
        if not truth.startswith(written) and written.rstrip() != truth:
            return False
    return finished and written.rstrip() == truth


def _nats(model: Transformer, stretches: Sequence[_Stretch]) -> float:
    """The loss of stretches that are packed one after the other and do not see each other."""
    device = next(model.parameters()).device
    ids = torch.tensor([token for stretch in stretches for token in stretch.ids], device=device)
    lengths = [len(stretch.ids) for stretch in stretches]
    targets = ids.roll(-1)
    targets[torch.tensor(lengths, device=device).cumsum(0) - 1] = -100
    hidden = model.hidden(ids[None], lengths=lengths)[0]
    pieces = zip(torch.split(hidden, 1024), torch.split(targets, 1024), strict=True)
    return math.fsum(
        float(functional.cross_entropy(model.lm_head(piece).float(), wanted, ignore_index=-100, reduction="sum"))
        for piece, wanted in pieces
    )


def _stretches(store: TokenStore, tokenizer: Tokenizer, context_tokens: int) -> Iterator[_Stretch]:
    size = 0
    for document in range(len(store)):
        ids = store.ids(document, 0, context_tokens)
        if len(ids) < 2 or size + len(ids) > SCORED_TOKENS:
            continue
        size += len(ids)
        yield _Stretch(ids, len(tokenizer.decode_bytes(ids[1:])))


def _packs(stretches: Sequence[_Stretch]) -> Iterator[list[_Stretch]]:
    pack: list[_Stretch] = []
    for stretch in stretches:
        if pack and sum(len(one.ids) for one in pack) + len(stretch.ids) > FORWARD_TOKENS:
            yield pack
            pack = []
        pack.append(stretch)
    yield pack


def _texts(store: TokenStore, tokenizer: Tokenizer, count: int) -> list[SourceFile]:
    """Documents of plain text, in an order that depends on their contents alone: the first `count`."""
    rows = store.documents.to_pylist()
    keys = [hashlib.sha256(row["swhid"].encode()).digest() for row in rows]
    files: list[SourceFile] = []
    for document in sorted(range(len(rows)), key=keys.__getitem__):
        ids = store.ids(document)
        if len(files) < count and ids and min(ids) >= len(SPECIAL_TOKENS):
            files.append(_file(rows[document], tokenizer.decode(ids)))
    return files


def _file(row: dict[str, str], text: str) -> SourceFile:
    """A document as the record that holes are chosen in; what is not needed for that is left empty."""
    return SourceFile(
        path=row["path"],
        text=text,
        language=row.get("language") or "",
        license=row["license"],
        license_evidence="",
        repository=row["repository"],
        commit=row["commit"],
        swhid=row["swhid"],
        sha256=hashlib.sha256(text.encode()).hexdigest(),
        split=HELD_OUT,
    )
