"""Where in a text the shingles of one licence stand, compiled: how often it is there, and what belongs to it."""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from starsmith.corpus.license_kernels import SHINGLE_WORDS

LONGEST_GAP = 60  # shingles without one of a licence's, and a fifth of its own, within one text of it
WIDEST = 2  # times its own shingles over which the parts of one licence stand in another order
SHORTEST_RUN = 10  # shingles in a row, below which the first or last of a text are words that a notice beside it uses


@njit(cache=True, nogil=True)
def _steps(wanted: NDArray[np.int32], ordered: NDArray[np.int32], places: NDArray[np.int64]) -> NDArray[np.int32]:
    """By place in the text: which of a licence's shingles stands there, in the licence's order, or -1."""
    step_at = np.full(len(places), -1, np.int32)
    for step in range(len(wanted)):
        at = np.searchsorted(ordered, wanted[step])
        while at < len(ordered) and ordered[at] == wanted[step]:
            step_at[places[at]] = step
            at += 1
    return step_at


@njit(cache=True, nogil=True)
def _windows(step_at: NDArray[np.int32], size: int, length: int, least: float) -> NDArray[np.int64]:
    """(N, 3) the parts of a text, little longer than the licence, in which most of its shingles are together."""
    found = np.empty((len(step_at) // max(1, int(least * size)) + 2, 3), np.int64)
    width = length + length // 5 + LONGEST_GAP
    count, start = 0, 0
    while start < len(step_at):
        times = np.zeros(size, np.int32)
        left, distinct, best, first, last = start, 0, 0, -1, -1
        for place in range(start, len(step_at)):
            step = step_at[place]
            if step >= 0:
                times[step] += 1
                distinct += times[step] == 1
            while place - left >= width or step_at[left] < 0:
                if left == place:
                    break
                if step_at[left] >= 0:
                    times[step_at[left]] -= 1
                    distinct -= times[step_at[left]] == 0
                left += 1
            if distinct > best:
                best, first, last = distinct, left, place
            elif best >= least * size and place - last > width:
                break
        if best < least * size:
            break
        first = _last_start(step_at, first, last, size)
        place = last + 1
        while place < len(step_at) and place - first < width and place - last < LONGEST_GAP:  # repetitions at the end
            last = place if step_at[place] >= 0 else last
            place += 1
        found[count] = first, last, best
        count += 1
        start = last + 1
    return found[:count]


@njit(cache=True, nogil=True)
def _last_start(step_at: NDArray[np.int32], first: int, last: int, size: int) -> int:
    """The last place from which all that is there up to `last` still is: what comes again may be another text's."""
    times = np.zeros(size, np.int32)
    for place in range(first, last + 1):
        if step_at[place] >= 0:
            times[step_at[place]] += 1
    while step_at[first] < 0 or times[step_at[first]] > 1:
        if step_at[first] >= 0:
            times[step_at[first]] -= 1
        first += 1
    return first


@njit(cache=True, nogil=True)
def _trim(step_at: NDArray[np.int32], bounds: NDArray[np.int64]) -> None:
    """Leave out what stands apart at both ends: `under the terms of the GNU General Public License` above its text."""
    for side in range(2):
        step = 1 - 2 * side
        other = bounds[1 - side]
        while True:
            end = bounds[side]
            while end != other and step_at[end] >= 0:
                end += step
            if end == other or abs(end - bounds[side]) >= SHORTEST_RUN:
                break
            while end != other and step_at[end] < 0:
                end += step
            bounds[side] = end


@njit(cache=True, nogil=True)
def occurrences(
    wanted: NDArray[np.int32], ordered: NDArray[np.int32], places: NDArray[np.int64], least: float, length: int
) -> NDArray[np.int64]:
    """(N, 3) first and last place of each time a licence stands in a text, and how many of its shingles are there.

    wanted           the numbers of its shingles, in its own order
    ordered, places  the text's, in rising order, and where in the text each is
    length           shingles with repetitions of a licence that says the same in several places, 0 for others

    A new one starts where its shingles begin again (with repetitions: where most are together), or after a long gap.
    When none is nearly whole, its parts may stand in another order: then all of them are one, unless they are
    scattered over texts of other licences.
    """
    step_at = _steps(wanted, ordered, places)
    if length:
        found = _windows(step_at, len(wanted), length, least)
        for row in range(len(found)):
            _trim(step_at, found[row])
        return found
    found = np.empty((len(places) // max(1, int(least * len(wanted))) + 2, 3), np.int64)
    seen_in = np.zeros(len(wanted), np.int32)
    longest_gap = LONGEST_GAP + len(wanted) // 5
    count, run, distinct, first, last, step_before, everything = 0, 1, 0, -1, -1, -1, -1
    for place in range(len(step_at) + 1):
        step = step_at[place] if place < len(step_at) else -1
        if step < 0 and place < len(step_at):
            continue
        back = step < step_before - len(wanted) // 2 or place - last > longest_gap
        if (back or place == len(step_at)) and last >= 0:
            if distinct >= least * len(wanted):
                found[count] = first, last, distinct
                count += 1
            run += 1
            distinct, first = 0, -1
        if place == len(step_at):
            break
        first = place if first < 0 else first
        everything = place if everything < 0 else everything
        last, step_before = place, step
        if seen_in[step] != run:
            seen_in[step] = run
            distinct += 1
    if count == 0 and last - everything <= WIDEST * len(wanted) + longest_gap:
        found[0] = everything, last, (seen_in > 0).sum()
        count = 1
    for row in range(count):
        _trim(step_at, found[row])
    return found[:count]


@njit(cache=True, nogil=True)
def take(
    wanted: NDArray[np.int32],
    times: NDArray[np.int32],
    ordered: NDArray[np.int32],
    places: NDArray[np.int64],
    bounds: NDArray[np.int64],
    taken: NDArray[np.bool_],
    most_shared: float,
) -> bool:
    """Take a licence's shingles between two places of the text, unless others took more than a share of them.

    Each is taken as many `times` as the licence has it: a further one belongs to another text.
    """
    inside = np.zeros(len(places), np.bool_)
    seen, shared = 0, 0
    for step in range(len(wanted)):
        at = np.searchsorted(ordered, wanted[step])
        left = times[step]
        while left > 0 and at < len(ordered) and ordered[at] == wanted[step]:
            if bounds[0] <= places[at] <= bounds[1]:
                inside[places[at]] = True
                seen += 1
                shared += taken[places[at]]
                left -= 1
            at += 1
    if shared >= most_shared * seen:
        return False
    taken |= inside
    return True


@njit(cache=True, nogil=True)
def covered(taken: NDArray[np.bool_], which: NDArray[np.int32], words: int) -> NDArray[np.bool_]:
    """(W,) whether each word is part of a shingle that was taken, or of a holder's name within one."""
    inside = np.zeros(words, np.bool_)
    for at in range(len(taken)):
        if taken[at]:
            inside[which[at] : which[at + SHINGLE_WORDS - 1] + 1] = True
    return inside
