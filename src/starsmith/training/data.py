"""Token documents become rows for the model: cut to the context, half of the files as infills, packed.

Which document stands in which row is planned for an epoch at a time (training.packing); here one row is read, its
infills are cut (tokenizer.cuts, tokenizer.fim), and all is put together. Whether a file is trained as infills is
decided once per file and epoch; each of its stretches is then an infill of its own, whole in the row with its end
marker. Files of a repository may stand together as one sequence. Attention never crosses from one sequence to the next.

Row k is a function of (settings, seed, k), whatever was read before and by which rank: every choice comes from a
counter-based generator keyed by (seed, epoch, document). So a run goes on exactly where it stopped, at any number of
ranks.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from starsmith.core.errors import ConfigError
from starsmith.tokenizer import cuts, fim
from starsmith.tokenizer.bpe import END_OF_TEXT, FILE_SEP, REPO_NAME, Tokenizer
from starsmith.tokenizer.repositories import name_of
from starsmith.tokenizer.tokens import TokenStore
from starsmith.training import packing
from starsmith.training.loss import IGNORED

LEFT_TO_RIGHT, REPOSITORY = "left-to-right", "repository"  # kinds of sequences, beside the two layouts of an infill
PSM: fim.Layout = "psm"
SPM: fim.Layout = "spm"
RANDOM, IMPORTS = "random", "imports"
FEWEST_CONTEXT_TOKENS = 4 * fim.MARKERS + packing.SEAM_ROOM
PLANS_KEPT = 2  # epochs whose plan is in memory: readers at the end of one may be at the beginning of the next


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """How documents become sequences. Rates are StarCoder2's; the mix of cuts is ours (see tokenizer.cuts)."""

    context_tokens: int = 4096  # the longest sequence
    fim_rate: float = 0.5  # share of the files, or repositories, trained as infills
    spm_rate: float = 0.5  # share of the infills in suffix-prefix-middle order
    cuts: dict[str, float] = field(default_factory=lambda: dict(cuts.DEFAULT_CUTS))  # where, and how often: weights
    repository_rate: float = 0.5  # share of repositories, or parts of four contexts, whose files stand together
    file_order: str = RANDOM  # of a repository's files, as the paper's; or imports: each after those it imports
    metadata_rate: float = 0.5  # share of these repositories that have their name and paths written out

    def __post_init__(self) -> None:
        if self.context_tokens < FEWEST_CONTEXT_TOKENS:
            raise ConfigError(
                f"context_tokens={self.context_tokens}: too short for an infill",
                hint=f"give {FEWEST_CONTEXT_TOKENS} or more",
            )
        for name in ("fim_rate", "spm_rate", "repository_rate", "metadata_rate"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name}={getattr(self, name)}: a share lies in 0 to 1", hint="for example 0.5")
        if self.file_order not in (RANDOM, IMPORTS):
            raise ConfigError(f"file_order={self.file_order!r}: not known", hint=f"give {RANDOM!r} or {IMPORTS!r}")
        cuts.check_weights(self.cuts)


@dataclass(frozen=True)
class Batch:
    """Sequences packed one after the other: one row."""

    ids: NDArray[np.int64]  # (N,)
    targets: NDArray[np.int64]  # (N,) the next id of the same sequence, IGNORED at its end
    lengths: list[int]  # of the sequences; their sum is N
    documents: tuple[tuple[int, ...], ...] = ()  # of each sequence, rows of the tokens' documents.parquet
    kinds: tuple[str, ...] = ()  # of each sequence
    languages: tuple[str, ...] = ()  # of each sequence, or of most of its tokens
    dropped_tokens: int = 0  # of the documents, at the outer ends of infills whose seams took more than there was room

    @property
    def trained_tokens(self) -> int:
        """Tokens that a loss is taken on."""
        return len(self.ids) - len(self.lengths)


class Rows:
    """All rows of all epochs, by number; for one thread at a time."""

    def __init__(
        self, store: TokenStore, tokenizer: Tokenizer, config: DataConfig, *, seed: int, row_tokens: int
    ) -> None:
        if not store.lengths.any():
            raise ConfigError("the tokens artefact has no training token", hint="build it from a larger corpus")
        if row_tokens < config.context_tokens:
            raise ConfigError(
                f"a row of {row_tokens} tokens is less than one context of {config.context_tokens}",
                hint="raise micro_batch_tokens, or lower context_tokens",
            )
        if config.fim_rate:
            cuts.check_grammars(config.cuts)
        self._store, self._tokenizer, self._config = store, tokenizer, config
        self._seed, self._row_tokens = seed, row_tokens
        self._languages: list[str] = store.documents["language"].to_pylist()
        self._paths = store.documents["path"]
        self._documents, self._names = _described(store, tokenizer)
        self._plans: dict[int, packing.Plan] = {}  # of the epochs last read
        self._ends: list[int] = []  # row after the last of each epoch that was planned

    def __getitem__(self, number: int) -> Batch:
        """One row of at most `row_tokens` tokens."""
        epoch = self.epoch(number)
        plan = self._plan(epoch)
        row = number - (self._ends[epoch - 1] if epoch else 0)
        sequences = range(int(plan.first_sequences[row]), int(plan.first_sequences[row + 1]))
        first, last = int(plan.first_pieces[sequences.start]), int(plan.first_pieces[sequences.stop])
        infills = self._infills(plan, epoch, range(first, last))
        built = [self._sequence(plan, sequence, infills) for sequence in sequences]
        batch = pack([ids for ids, _ in built])
        pieces = [range(*plan.first_pieces[sequence : sequence + 2].tolist()) for sequence in sequences]
        return Batch(
            batch.ids,
            batch.targets,
            batch.lengths,
            documents=tuple(tuple(self._store.rows[plan.documents[list(own)]].tolist()) for own in pieces),
            kinds=tuple(kind for _, kind in built),
            languages=tuple(self._language(plan, own) for own in pieces),
            dropped_tokens=sum(infill.dropped for infill in infills.values()),
        )

    def epoch(self, number: int) -> int:
        """The epoch, from 0, that a row is in."""
        if number < 0:
            raise IndexError(number)
        while not self._ends or number >= self._ends[-1]:
            self._plan(len(self._ends))
        return int(np.searchsorted(self._ends, number, "right"))

    def epochs_before(self, number: int) -> float:
        """Passes over the corpus that the rows before this one make."""
        epoch = self.epoch(number)
        first = self._ends[epoch - 1] if epoch else 0
        return epoch + (number - first) / (self._ends[epoch] - first)

    def rows_in(self, epoch: int) -> int:
        """The number of rows of an epoch; about, but not exactly, the same in all."""
        return len(self._plan(epoch))

    def _plan(self, epoch: int) -> packing.Plan:
        """The plan of an epoch; that of a later one needs those before it, for where its rows begin."""
        for earlier in range(len(self._ends), epoch):
            self._make_plan(earlier)
        found = self._plans.get(epoch)
        return self._make_plan(epoch) if found is None else found

    def _make_plan(self, epoch: int) -> packing.Plan:
        config = self._config
        rates = packing.Rates(
            context_tokens=config.context_tokens,
            fim_rate=config.fim_rate,
            repository_rate=config.repository_rate,
            metadata_rate=config.metadata_rate,
            by_imports=config.file_order == IMPORTS,
        )
        plan = packing.plan(self._documents, rates, seed=self._seed, epoch=epoch, row_tokens=self._row_tokens)
        while len(self._plans) >= PLANS_KEPT:
            self._plans.pop(next(iter(self._plans)))
        self._plans[epoch] = plan
        if epoch == len(self._ends):
            self._ends.append((self._ends[-1] if self._ends else 0) + len(plan))
        return plan

    def _infills(self, plan: packing.Plan, epoch: int, pieces: range) -> dict[int, "_Infill"]:
        """The pieces that are infills, cut; the seams of a row are encoded in one call."""
        chosen = [piece for piece in pieces if plan.infilled[piece]]
        if not chosen:
            return {}
        documents, starts = plan.documents[chosen], plan.starts[chosen]
        drawn = packing.shares(self._seed, packing.INFILL, epoch, documents, starts, count=2 + cuts.SHARES).tolist()
        texts = [fim.Text.of(self._tokenizer, self._ids(plan, piece)) for piece in chosen]
        spans = [
            cuts.choose(
                text.content,
                kind=cuts.kind_of(self._config.cuts, share[1]),
                language=self._languages[document],
                shares=share[2:],
            )
            for text, share, document in zip(texts, drawn, documents.tolist(), strict=True)
        ]
        found = fim.cut(self._tokenizer, texts, spans)
        return {
            piece: _fitted(text, span, cut, SPM if share[0] < self._config.spm_rate else PSM)
            for piece, text, span, cut, share in zip(chosen, texts, spans, found, drawn, strict=True)
        }

    def _sequence(
        self, plan: packing.Plan, sequence: int, infills: Mapping[int, "_Infill"]
    ) -> tuple[NDArray[np.int64], str]:
        """The ids of one sequence, and its kind."""
        first, stop = plan.first_pieces[sequence : sequence + 2].tolist()
        together = bool(plan.together[first])
        runs: list[fim.Ids] = []
        if plan.named[first]:
            runs += [(REPO_NAME,), self._names[self._documents.repositories[plan.documents[first]]]]
        for piece in range(first, stop):
            document = int(plan.documents[piece])
            path: fim.Ids = ()
            if together:
                runs.append((FILE_SEP,))
            if plan.named[piece]:
                path = fim.path_ids(self._tokenizer, self._paths[document].as_py())
            infill = infills.get(piece)
            runs += fim.arrange(infill.cut, infill.layout, path=path) if infill else [path, self._ids(plan, piece)]
        if plan.last[stop - 1] or (infill and not together):
            runs.append((END_OF_TEXT,))
        elif infill or (together and plan.ends[stop - 1] == self._documents.lengths[document]):
            runs.append((FILE_SEP,))  # other files of the repository follow, in a sequence of their own
        return fim.join(runs), REPOSITORY if together else infill.layout if infill else LEFT_TO_RIGHT

    def _ids(self, plan: packing.Plan, piece: int) -> NDArray[np.int64]:
        return self._store.array(int(plan.documents[piece]), int(plan.starts[piece]), int(plan.ends[piece]))

    def _language(self, plan: packing.Plan, pieces: range) -> str:
        """The language that most of the tokens of a sequence are in."""
        if len(pieces) == 1:
            return self._languages[int(plan.documents[pieces.start])]
        sizes: dict[str, int] = {}
        for piece in pieces:
            language = self._languages[int(plan.documents[piece])]
            sizes[language] = sizes.get(language, 0) + int(plan.ends[piece] - plan.starts[piece])
        return max(sizes, key=lambda name: (sizes[name], name))


@dataclass(frozen=True)
class _Infill:
    """A piece that was cut."""

    cut: fim.Cut
    layout: fim.Layout
    dropped: int  # tokens of the document that are not in it


def _fitted(text: fim.Text, span: cuts.Span, cut: fim.Cut, layout: fim.Layout) -> _Infill:
    """A cut in the room that was planned for it: the piece's tokens and SEAM_ROOM."""
    excess = len(cut.prefix) + len(cut.middle) + len(cut.suffix) - len(text.ids) - packing.SEAM_ROOM
    if excess <= 0:
        return _Infill(cut, layout, 0)
    shorter = fim.shorten(cut, excess)
    if shorter is None:  # hardly anything stands around the middle
        return _Infill(fim.cut_between_tokens(text, span), layout, 0)
    return _Infill(shorter, layout, excess)


def pack(sequences: Sequence[fim.Ids]) -> Batch:
    """Join sequences; the target of each id is the one after it in the same sequence."""
    ids = fim.join(sequences)
    lengths = [len(sequence) for sequence in sequences]
    targets = np.roll(ids, -1)
    targets[np.cumsum(lengths) - 1] = IGNORED
    return Batch(ids, targets, lengths)


def _described(store: TokenStore, tokenizer: Tokenizer) -> tuple[packing.Documents, list[list[int]]]:
    """What planning needs, and the ids of the repositories' names."""
    coded = store.documents["repository"].combine_chunks().dictionary_encode()
    names = [tokenizer.encode(name_of(repository)) for repository in coded.dictionary.to_pylist()]
    documents = packing.Documents(
        lengths=store.lengths,
        plain=~store.documents["structured"].to_numpy(),
        repositories=coded.indices.to_numpy().astype(np.int64),
        path_tokens=store.documents["path_tokens"].to_numpy().astype(np.int64),
        name_tokens=np.array([len(name) for name in names], np.int64),
        ranks=store.documents["import_rank"].to_numpy().astype(np.int64),
    )
    return documents, names
