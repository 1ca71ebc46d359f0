"""An epoch's plan: which stretches of which documents stand together in which row, before a token is read.

Documents become pieces (a whole file, or a stretch of one that is longer than the context), pieces become sequences
(one piece, or files of a repository one after the other), and sequences become rows by best-fit decreasing: the
longest first, each into the fullest row that has room (Ding et al. 2024, arXiv 2404.10830). Nothing is cut only so
that a row is full; what remains empty is well below 2 % where an epoch has more than a few rows.

All of it is a function of (seed, epoch) and of the documents' lengths. A plan keeps about 40 bytes for each piece and
takes two seconds for each million of them.
"""

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from starsmith.core.hashing import BASE, mix
from starsmith.tokenizer import fim

SEAM_ROOM = 4  # tokens kept for the seams of an infill: encoding them anew adds 0 to 2 as a rule, 5 in one of 100
OPEN_SEQUENCES = 64  # of a repository, which its next file can join
PART_CONTEXTS = 4  # a longer repository is several documents, so that one large one is not all infills, or all named
REPOSITORY_FILE_RATE = 0.5  # of the files in a repository that has infills at all, the paper's
# Streams of randomness that must not overlap.
_FIRST_CUT, _FILE, _REPOSITORY, _FILE_IN_REPOSITORY, _FILE_ORDER, _ROW_ORDER, _TIES = range(7)
INFILL = 7  # the stream of what is drawn for one infill


def shares(seed: int, stream: int, epoch: int, *keys: NDArray[np.int64], count: int = 1) -> NDArray[np.float64]:
    """(len(keys), count) numbers in [0, 1) for each key, whatever was drawn before and wherever: splitmix64.

    keys  arrays of one length, or of length 1; the key is all of them together
    """
    state = np.zeros(1, np.uint64)
    with np.errstate(over="ignore"):
        for part in (np.array([seed]), np.array([stream]), np.array([epoch]), *keys):
            state = mix((state ^ part.astype(np.uint64)) + BASE)
        drawn = mix(state[:, None] + BASE * np.arange(1, count + 1, dtype=np.uint64))
    return (drawn >> np.uint64(11)).astype(np.float64) * 2.0**-53


@dataclass(frozen=True)
class Documents:
    """What a plan needs to know of N documents of G repositories."""

    lengths: NDArray[np.int64]  # (N,) tokens
    plain: NDArray[np.bool_]  # (N,) files, not issues and notebooks: these are not infilled and not put together
    repositories: NDArray[np.int64]  # (N,) number of its repository
    path_tokens: NDArray[np.int64]  # (N,) of the path and its line end
    name_tokens: NDArray[np.int64]  # (G,) of the repository's name
    ranks: NDArray[np.int64]  # (N,) place in its repository when files stand after those that they import


@dataclass(frozen=True, kw_only=True)
class Rates:
    """What share of documents is trained how; the fields of the same names of `training.data.DataConfig`."""

    context_tokens: int
    fim_rate: float
    repository_rate: float
    metadata_rate: float
    by_imports: bool


@dataclass(frozen=True)
class Plan:
    """P pieces in S sequences in R rows."""

    documents: NDArray[np.int64]  # (P,)
    starts: NDArray[np.int64]  # (P,) token within the document
    ends: NDArray[np.int64]  # (P,)
    infilled: NDArray[np.bool_]  # (P,)
    together: NDArray[np.bool_]  # (P,) in a sequence of a repository
    named: NDArray[np.bool_]  # (P,) there, and with the repository's name and the paths
    last: NDArray[np.bool_]  # (P,) the end of its file, in the last sequence of its repository if that is together
    first_pieces: NDArray[np.int64]  # (S + 1,) of each sequence
    first_sequences: NDArray[np.int64]  # (R + 1,) of each row

    def __len__(self) -> int:
        return len(self.first_sequences) - 1


def plan(documents: Documents, rates: Rates, *, seed: int, epoch: int, row_tokens: int) -> Plan:
    """The rows of one epoch."""
    # D documents that have tokens, alone ones first, then those of each part of a repository in their order there.
    order, group, named, infilled = _drawn(documents, rates, seed, epoch)
    together = group >= 0
    header = np.where(named, documents.name_tokens[documents.repositories[order]] + 1, 0)  # <repo_name>
    before = np.where(together, 1 + np.where(named, documents.path_tokens[order], 0), 0)  # <file_sep> and the path
    marks = np.where(infilled, fim.MARKERS - 1 + SEAM_ROOM, 0)
    room = rates.context_tokens - header - before - marks - 1  # an end marker stands after every sequence that ends
    which, starts, ends = _pieces(documents.lengths[order], room, order, seed, epoch)
    costs = (before + marks)[which] + ends - starts
    sequence = _sequences(costs, header[which] + 1, group[which], rates.context_tokens)
    bounds = np.searchsorted(np.sort(sequence), np.arange(sequence.max(initial=-1) + 2))  # pieces of each sequence
    in_sequence = np.argsort(sequence, kind="stable")
    firsts = which[in_sequence[bounds[:-1]]]
    tokens = np.bincount(sequence, costs).astype(np.int64) + header[firsts] + 1
    rows = _rows(tokens, row_tokens, seed, epoch)
    by_row = np.argsort(rows, kind="stable")  # sequences in the order of their rows
    taken, first_pieces = _gather(bounds, by_row)
    taken = in_sequence[taken]
    complete = ends == documents.lengths[order[which]]
    final = np.append(group[firsts][1:] != group[firsts][:-1], True)[sequence]  # the last sequence of a repository
    entry = which[taken]
    return Plan(
        documents=order[entry],
        starts=starts[taken],
        ends=ends[taken],
        infilled=infilled[entry],
        together=together[entry],
        named=named[entry],
        last=complete[taken] & (final[taken] | ~together[entry]),
        first_pieces=first_pieces,
        first_sequences=np.searchsorted(rows[by_row], np.arange(rows.max(initial=-1) + 2)),
    )


def _drawn(
    documents: Documents, rates: Rates, seed: int, epoch: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_], NDArray[np.bool_]]:
    """The documents in the order of their sequences: number, group (-1 alone), with names, infilled."""
    order = np.flatnonzero(documents.lengths > 0)
    places = shares(seed, _FILE_ORDER, epoch, order)[:, 0]
    if rates.by_imports:
        places = documents.ranks[order].astype(np.float64)
    order = order[np.lexsort((places, documents.repositories[order]))]
    repository = documents.repositories[order]
    part = _parts(documents.lengths[order], repository, PART_CONTEXTS * rates.context_tokens)
    drawn = shares(seed, _REPOSITORY, epoch, repository, part, count=3)
    named = drawn[:, 1] < rates.metadata_rate
    # A name or path that would fill much of the context is left out, and so is its file's place among the others.
    names = documents.path_tokens[order] + np.where(named, documents.name_tokens[repository], 0)
    plain = documents.plain[order]
    together = (drawn[:, 0] < rates.repository_rate) & plain & (names <= rates.context_tokens // 4)
    alone = shares(seed, _FILE, epoch, order)[:, 0] < rates.fim_rate
    inside = shares(seed, _FILE_IN_REPOSITORY, epoch, order)[:, 0] < REPOSITORY_FILE_RATE
    infilled = np.where(together, inside & (drawn[:, 2] < rates.fim_rate), alone) & plain
    changes = (np.diff(repository, prepend=-1) != 0) | (np.diff(part, prepend=0) != 0)
    group = np.where(together, np.cumsum(changes), -1)
    by_group = np.argsort(group, kind="stable")
    return order[by_group], group[by_group], (together & named)[by_group], infilled[by_group]


def _parts(lengths: NDArray[np.int64], repositories: NDArray[np.int64], tokens: int) -> NDArray[np.int64]:
    """(D,) the part of its repository that a file is in: each has so many tokens, and files stay whole."""
    before = np.cumsum(lengths) - lengths
    first = np.flatnonzero(np.diff(repositories, prepend=-1))
    counts = np.diff(np.append(first, len(lengths)))
    return np.asarray((before - np.repeat(before[first], counts)) // tokens, np.int64)


def _pieces(
    lengths: NDArray[np.int64], room: NDArray[np.int64], documents: NDArray[np.int64], seed: int, epoch: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """(P,) each: which document, and its first and last token; the first cut of a long document is random."""
    first = 1 + (shares(seed, _FIRST_CUT, epoch, documents)[:, 0] * room).astype(np.int64)
    first = np.where(lengths <= room, lengths, first)
    counts = 1 + -(-(lengths - first) // room)
    which = np.repeat(np.arange(len(lengths)), counts)
    rank = np.arange(len(which)) - np.repeat(np.cumsum(counts) - counts, counts)
    ends = np.minimum(first[which] + rank * room[which], lengths[which])
    starts = np.where(rank == 0, 0, first[which] + (rank - 1) * room[which])
    return which, starts, ends


def _rows(tokens: NDArray[np.int64], row_tokens: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """(S,) the row of each sequence, rows in random order."""
    ties = shares(seed, _TIES, epoch, np.arange(len(tokens)))[:, 0]
    longest_first = np.lexsort((ties, -tokens))
    rows = np.empty(len(tokens), np.int64)
    rows[longest_first] = _best_fit(tokens[longest_first], row_tokens)
    shuffled = np.argsort(shares(seed, _ROW_ORDER, epoch, np.arange(rows.max(initial=-1) + 1))[:, 0], kind="stable")
    return np.argsort(shuffled, kind="stable")[rows]


def _gather(bounds: NDArray[np.int64], chosen: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The numbers in bounds[i]:bounds[i + 1] for each i of `chosen`, one after the other, and where each begins."""
    counts = (bounds[1:] - bounds[:-1])[chosen]
    firsts = np.concatenate((np.zeros(1, np.int64), np.cumsum(counts)))
    numbers = np.arange(firsts[-1]) + np.repeat(bounds[:-1][chosen] - firsts[:-1], counts)
    return numbers, firsts


@njit(cache=True)
def _sequences(
    costs: NDArray[np.int64], fixed: NDArray[np.int64], groups: NDArray[np.int64], context: int
) -> NDArray[np.int64]:
    """The sequence of each piece, numbered so that a group's follow each other; pieces of group -1 have one each.

    Each piece of a group goes to the fullest of the last OPEN_SEQUENCES of its group in which it fits, so that files
    that follow each other mostly stay together, in their order, and yet little of the context stays empty.
    """
    sequences = np.empty(len(costs), np.int64)
    opened, room = np.empty(OPEN_SEQUENCES, np.int64), np.empty(OPEN_SEQUENCES, np.int64)
    count, used = 0, 0
    for piece in range(len(costs)):
        if groups[piece] < 0 or piece == 0 or groups[piece] != groups[piece - 1]:
            used = 0
        best = -1
        for place in range(used):
            if room[place] >= costs[piece] and (best < 0 or room[place] < room[best]):
                best = place
        if best < 0:
            if used < OPEN_SEQUENCES:
                best = used
                used += 1
            else:
                best = int(np.argmin(room))
            opened[best], room[best] = count, context - fixed[piece]
            count += 1
        room[best] -= costs[piece]
        sequences[piece] = opened[best]
    return sequences


@njit(cache=True)
def _best_fit(sizes: NDArray[np.int64], capacity: int) -> NDArray[np.int64]:
    """The row of each size, the largest first: the fullest row in which it fits, else a new one.

    Rows are kept in a list for each amount of room, and counted for every 64 amounts, so that the
    smallest sufficient one is found in few steps.
    """
    rows = np.empty(len(sizes), np.int64)
    top = np.full(capacity + 1, -1, np.int64)  # a row with so much room
    below = np.full(len(sizes), -1, np.int64)  # the next row with as much room
    blocks = np.zeros((capacity >> 6) + 1, np.int64)  # rows with room in each 64 amounts
    count = 0
    for number in range(len(sizes)):
        room = _next_room(top, blocks, sizes[number])
        if room < 0:
            row, room = count, capacity
            count += 1
        else:
            row = top[room]
            top[room] = below[row]
            blocks[room >> 6] -= 1
        rows[number] = row
        room -= sizes[number]
        below[row] = top[room]
        top[room] = row
        blocks[room >> 6] += 1
    return rows


@njit(cache=True)
def _next_room(top: NDArray[np.int64], blocks: NDArray[np.int64], wanted: int) -> int:
    """The smallest amount of room, at least `wanted`, that some row has; -1 for none."""
    room = wanted
    while room < len(top):
        if blocks[room >> 6] == 0:
            room = ((room >> 6) + 1) << 6
        elif top[room] >= 0:
            return room
        else:
            room += 1
    return -1
