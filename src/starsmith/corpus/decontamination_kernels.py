"""The loops of decontamination: one pass of a rolling hash over a file's bytes, and one over its blinded tokens.

Shapes: B bytes of a file, M bytes without white space, T tokens.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

WINDOW = 24  # normalised bytes under the rolling hash: no text with fewer can be found
MOST_CHOSEN = 64  # n-grams of a text that are looked for: as many as one word of a bitmap marks
_STRETCH = 2  # a near copy lies within so many times the tokens of the text

_SPACE, _WORD, _PUNCTUATION = 0, 1, 2  # of a byte, as in core.hashing
_NAME, _KEYWORD, _DEFINING, _NUMBER, _MARK = 0, 1, 2, 3, 4  # of a token

_BASE = np.uint64(0x9E3779B97F4A7C15)
# Odd: a product's high bits depend on all bits. Of ten tried, the first that gives each keyword a slot of its own.
_SPREAD = np.uint64(0xE4B06CE60741C7A9)
_FNV_START, _FNV_PRIME = np.uint64(0xCBF29CE484222325), np.uint64(0x100000001B3)
_BLIND = np.uint64(0x2545F4914F6CDD1D)  # stands for every variable
_SLOTS, _SLOT_SHIFT = 4096, np.uint64(64 - 12)

# Words of many languages that no renaming touches. A word after a defining one is a name although "(" follows it.
_DEFINING_WORDS = "def fn func function fun sub proc define class struct"
_KEYWORDS = """
    return for foreach in of if else elif elsif elseif then fi do done while until loop end begin case when switch
    match default break continue next last pass yield and or not is None nil null undefined True False self this new
    import from as use using include require package module namespace lambda try except catch finally raise throw with
    assert global nonlocal del async await let mut const var val local my static final public private protected void
    int long short float double char bool boolean byte unsigned string str list dict set tuple array vector map auto
    uint8_t int64_t size_t i32 i64 u8 u64 usize f64 any all object number
"""


def _byte_classes() -> NDArray[np.uint8]:
    classes = np.full(256, _PUNCTUATION, np.uint8)
    for byte in range(256):
        if byte >= 128 or chr(byte).isalnum() or byte == ord("_"):
            classes[byte] = _WORD
        elif byte <= 32 or byte == 127:
            classes[byte] = _SPACE
    return classes


def _lower_case() -> NDArray[np.uint8]:
    return np.array([byte + 32 if ord("A") <= byte <= ord("Z") else byte for byte in range(256)], np.uint8)


def _keyword_table() -> tuple[NDArray[np.uint64], NDArray[np.uint8]]:
    """(_SLOTS,) hashes, 0 in an empty slot, and the kind of each; a test holds that no two words share a slot."""
    hashes, kinds = np.zeros(_SLOTS, np.uint64), np.zeros(_SLOTS, np.uint8)
    for kind, words in ((_DEFINING, _DEFINING_WORDS), (_KEYWORD, _KEYWORDS)):
        for word in words.split():
            value = int(_FNV_START)
            for byte in word.lower().encode():
                value = (value ^ byte) * int(_FNV_PRIME) % 2**64
            slot = (value * int(_SPREAD) % 2**64) >> int(_SLOT_SHIFT)
            hashes[slot], kinds[slot] = value, kind
    return hashes, kinds


_CLASSES, _LOWER = _byte_classes(), _lower_case()
_FOLDED = _LOWER.astype(np.uint16) | (_CLASSES.astype(np.uint16) << 8)  # class and lower case of a byte in one
_WORD_BIT = _WORD << 8
_KEEP = (_CLASSES != _SPACE).astype(np.uint8)
_WORD_HASHES, _WORD_KINDS = _keyword_table()


@njit(cache=True, nogil=True)
def normalise(data: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(M,) lower case, without white space and control characters."""
    out = np.empty(len(data) + 1, np.uint8)
    size = 0
    for place in range(len(data)):
        byte = data[place]
        out[size] = _LOWER[byte]  # overwritten by the next one unless it is kept: no branch to mispredict
        size += _KEEP[byte]
    return out[:size]


def window_hashes(text: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """(max(M - WINDOW + 1, 0),) a hash of every window of a normalised text."""
    return _rolling(text, WINDOW)


@njit(cache=True, nogil=True)
def bitmap(keys: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """A Bloom filter of two bits a hash, both in one word, in a power of two of words: at least 16 bits a hash.

    About one hash in a hundred passes that is not among the keys.
    """
    words = 1 << 10
    while words * 4 < len(keys):
        words *= 2
    bits = np.zeros(words, np.uint64)
    for key in keys:
        spread = key * _SPREAD
        bits[spread >> _shift(words)] |= _two_bits(spread)
    return bits


@njit(cache=True, nogil=True)
def directory(keys: NDArray[np.uint64]) -> NDArray[np.int64]:
    """(2**16 + 1,) where the sorted keys with each 16 high bits begin."""
    begins = np.zeros((1 << 16) + 1, np.int64)
    for key in keys:
        begins[(key >> np.uint64(48)) + np.uint64(1)] += 1
    return np.cumsum(begins)


@njit(cache=True, nogil=True)
def find_exact(
    data: NDArray[np.uint8],
    bits: NDArray[np.uint64],
    keys: NDArray[np.uint64],
    begins: NDArray[np.int64],
    firsts: NDArray[np.int64],
    numbers: NDArray[np.int64],
    offsets: NDArray[np.int64],
    starts: NDArray[np.int64],
    joined: NDArray[np.uint8],
) -> tuple[int, int, int]:
    """Number of the first text that `data` holds, and the bytes of it; number -1 when there is none."""
    text = normalise(data)
    shift = _shift(len(bits))
    leaving = _power(WINDOW)
    value = np.uint64(0)
    for place in range(min(WINDOW - 1, len(text))):
        value = value * _BASE + np.uint64(text[place])
    oldest = np.uint64(0)
    for place in range(WINDOW - 1, len(text)):
        value = value * _BASE + (np.uint64(text[place]) - oldest * leaving)
        first = place - WINDOW + 1
        oldest = np.uint64(text[first])
        spread = value * _SPREAD
        marks = _two_bits(spread)
        if bits[spread >> shift] & marks != marks:
            continue
        key = _search(keys, begins, value)
        if key < 0:
            continue
        for one in range(firsts[key], firsts[key + 1]):
            begin, size = first - offsets[one], starts[one + 1] - starts[one]
            if begin >= 0 and begin + size <= len(text) and _equal(text, begin, joined, starts[one], size):
                start = _byte_of(data, begin)
                return numbers[one], start, start + _byte_of(data[start:], size - 1) + 1
    return -1, 0, 0


@njit(cache=True, nogil=True)
def blind(data: NDArray[np.uint8]) -> tuple[NDArray[np.uint64], NDArray[np.int32], NDArray[np.int32]]:
    """(T,) values of tokens, a variable's all alike, and their byte offsets: begin and end.

    Both loops are written without branches, which the processor could not foresee.
    """
    values = np.empty(len(data) + 1, np.uint64)
    begins, ends = np.empty(len(data) + 1, np.int32), np.empty(len(data) + 1, np.int32)
    count = np.uint64(0)  # unsigned, or else each store asks whether it counts from the end
    byte = _FOLDED[data[0]] if len(data) else np.uint16(0)
    value, begin = _FNV_START, np.int32(0)
    for place in range(len(data)):
        after = _FOLDED[data[place + 1]] if place + 1 < len(data) else np.uint16(0)
        value = (value ^ np.uint64(byte & 0xFF)) * _FNV_PRIME
        values[count], begins[count], ends[count] = value, begin, place + 1
        goes_on = (byte & after & _WORD_BIT) != 0
        count += np.uint64(((byte >> 8) != 0) & (not goes_on))
        value = value if goes_on else _FNV_START
        begin = begin if goes_on else np.int32(place + 1)
        byte = after
    _hide_variables(data, values[:count], begins)
    return values[:count], begins[:count], ends[:count]


def ngram_hashes(data: NDArray[np.uint8], ngram: int) -> NDArray[np.uint64]:
    """(max(T - ngram + 1, 0),) a hash of every `ngram` blinded tokens."""
    return _rolling(blind(data)[0], ngram)


@njit(cache=True, nogil=True)
def find_near(
    data: NDArray[np.uint8],
    bits: NDArray[np.uint64],
    keys: NDArray[np.uint64],
    begins: NDArray[np.int64],
    firsts: NDArray[np.int64],
    owners: NDArray[np.int64],
    places: NDArray[np.int64],
    sizes: NDArray[np.int64],
    lengths: NDArray[np.int64],
    ngram: int,
    least_share: float,
    least_found: int,
) -> tuple[int, float, int, int]:
    """Number of the text with the largest share of its n-grams in `data`, that share and the bytes; -1 for none."""
    values, token_begins, token_ends = blind(data)
    where, which = _look_up(values, bits, keys, begins, ngram)
    if len(where) < least_found:  # distinct n-grams that a match takes at the least
        return -1, 0.0, 0, 0
    texts, marks = _marks_of(which, firsts, owners, places)
    best, best_share, first, last = -1, 0.0, 0, 0
    for text, found in zip(texts, marks):  # noqa: B905 numba's zip has no `strict`
        if _ones(found) < max(least_share, best_share) * sizes[text]:
            continue
        share, begin, end = _densest(where, which, firsts, owners, places, text, sizes[text], lengths[text])
        if share >= least_share and share > best_share:
            best, best_share, first, last = text, share, begin, end
    if best < 0:
        return -1, 0.0, 0, 0
    return best, best_share, token_begins[first], token_ends[last + ngram - 1]


@njit(cache=True, nogil=True)
def _look_up(
    values: NDArray[np.uint64],
    bits: NDArray[np.uint64],
    keys: NDArray[np.uint64],
    begins: NDArray[np.int64],
    ngram: int,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First tokens of the known n-grams, and which they are."""
    where, which = np.empty(16, np.int64), np.empty(16, np.int64)
    count = 0
    shift = _shift(len(bits))
    leaving = _power(ngram)
    value = np.uint64(0)
    for place in range(len(values)):
        value = value * _BASE + values[place]
        if place >= ngram:
            value -= values[place - ngram] * leaving
        if place < ngram - 1:
            continue
        spread = value * _SPREAD
        marks = _two_bits(spread)
        if bits[spread >> shift] & marks != marks:
            continue
        key = _search(keys, begins, value)
        if key < 0:
            continue
        if count == len(where):
            where, which = np.append(where, np.empty_like(where)), np.append(which, np.empty_like(which))
        where[count], which[count] = place - ngram + 1, key
        count += 1
    return where[:count], which[:count]


@njit(cache=True, nogil=True)
def _marks_of(
    which: NDArray[np.int64], firsts: NDArray[np.int64], owners: NDArray[np.int64], places: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.uint64]]:
    """The texts that have the found n-grams, in order, and for each a bit for every n-gram of its that was found."""
    total = 0
    for key in which:
        total += firsts[key + 1] - firsts[key]
    texts, marks = np.empty(total, np.int64), np.empty(total, np.uint64)
    entry = 0
    for key in which:
        for place in range(firsts[key], firsts[key + 1]):
            texts[entry], marks[entry] = owners[place], np.uint64(1) << np.uint64(places[place])
            entry += 1
    order = np.argsort(texts)
    texts, marks = texts[order], marks[order]
    last = 0
    for entry in range(1, total):
        if texts[entry] == texts[last]:
            marks[last] |= marks[entry]
        else:
            last += 1
            texts[last], marks[last] = texts[entry], marks[entry]
    return texts[: last + 1], marks[: last + 1]


@njit(cache=True, nogil=True)
def _densest(
    where: NDArray[np.int64],
    which: NDArray[np.int64],
    firsts: NDArray[np.int64],
    owners: NDArray[np.int64],
    places: NDArray[np.int64],
    text: int,
    size: int,
    length: int,
) -> tuple[float, int, int]:
    """The largest share of the text's n-grams within one stretch of the file, and its first and last token."""
    at, local = np.empty(len(where), np.int64), np.empty(len(where), np.int64)
    count = 0
    for hit in range(len(where)):
        low, high = firsts[which[hit]], firsts[which[hit] + 1]
        entry = low + np.searchsorted(owners[low:high], text)
        if entry < high and owners[entry] == text:
            at[count], local[count] = where[hit], places[entry]
            count += 1
    inside = np.zeros(MOST_CHOSEN, np.int64)
    distinct, best, first, last, tail = 0, 0, 0, 0, 0
    for head in range(count):
        inside[local[head]] += 1
        distinct += inside[local[head]] == 1
        while at[head] - at[tail] > _STRETCH * length:
            inside[local[tail]] -= 1
            distinct -= inside[local[tail]] == 0
            tail += 1
        if distinct > best:
            best, first, last = distinct, at[tail], at[head]
    return best / size, first, last


@njit(cache=True, nogil=True)
def _hide_variables(data: NDArray[np.uint8], values: NDArray[np.uint64], begins: NDArray[np.int32]) -> None:
    """Give every name that is a variable, by what stands beside it, the same value.

    A word beside a word is prose or a declaration, one after a dot or a quote is an attribute or content, and one
    before a parenthesis is a call: those keep their values.
    """
    before, before_byte = np.uint8(_MARK), np.uint8(0)
    byte = data[begins[0]] if len(values) else np.uint8(0)
    kind = _kind_of(byte, values[0]) if len(values) else np.uint8(_MARK)
    for place in range(len(values)):
        after, after_byte = np.uint8(_MARK), np.uint8(0)
        if place + 1 < len(values):
            after_byte = data[begins[place + 1]]
            after = _kind_of(after_byte, values[place + 1])
        called = (after_byte == 40) & (before != _DEFINING)
        quoted = (before_byte == 46) | (before_byte == 34) | (before_byte == 39)
        hidden = (kind == _NAME) & (not (called | quoted | (before == _NAME) | (after == _NAME)))
        values[place] = _BLIND if hidden else values[place]
        before, before_byte, kind, byte = kind, byte, after, after_byte


@njit(cache=True, nogil=True)
def _kind_of(byte: np.uint8, word: np.uint64) -> np.uint8:
    """Kind of a token by its first byte and its hash."""
    slot = (word * _SPREAD) >> _SLOT_SHIFT
    of_word = _WORD_KINDS[slot] if _WORD_HASHES[slot] == word else np.uint8(_NAME)
    of_word = np.uint8(_NUMBER) if (byte >= 48) & (byte <= 57) else of_word
    return of_word if _CLASSES[byte] == _WORD else np.uint8(_MARK)


@njit(cache=True, nogil=True)
def _rolling(values: NDArray[np.uint8] | NDArray[np.uint64], width: int) -> NDArray[np.uint64]:
    hashes = np.empty(max(len(values) - width + 1, 0), np.uint64)
    leaving = _power(width)
    value = np.uint64(0)
    for place in range(len(values)):
        value = value * _BASE + np.uint64(values[place])
        if place >= width:
            value -= np.uint64(values[place - width]) * leaving
        if place >= width - 1:
            hashes[place - width + 1] = value
    return hashes


@njit(cache=True, nogil=True)
def _power(exponent: int) -> np.uint64:
    value = np.uint64(1)
    for _ in range(exponent):
        value *= _BASE
    return value


@njit(cache=True, nogil=True)
def _shift(words: int) -> np.uint64:
    """How far a hash is shifted to number one of `words` words."""
    shift = 64
    while words > 1:
        words //= 2
        shift -= 1
    return np.uint64(shift)


@njit(cache=True, nogil=True)
def _two_bits(spread: np.uint64) -> np.uint64:
    one = np.uint64(1)
    return (one << ((spread >> np.uint64(20)) & np.uint64(63))) | (one << ((spread >> np.uint64(26)) & np.uint64(63)))


@njit(cache=True, nogil=True)
def _search(keys: NDArray[np.uint64], begins: NDArray[np.int64], value: np.uint64) -> int:
    """Place of `value` among the sorted keys, or -1."""
    high_bits = value >> np.uint64(48)
    low, high = begins[high_bits], begins[high_bits + np.uint64(1)]
    while low < high:
        middle = (low + high) // 2
        if keys[middle] < value:
            low = middle + 1
        else:
            high = middle
    return low if low < len(keys) and keys[low] == value else -1


@njit(cache=True, nogil=True)
def _equal(one: NDArray[np.uint8], begin: int, other: NDArray[np.uint8], start: int, size: int) -> bool:
    for place in range(size):  # noqa: SIM110 numba has no generators here
        if one[begin + place] != other[start + place]:
            return False
    return True


@njit(cache=True, nogil=True)
def _byte_of(data: NDArray[np.uint8], number: int) -> int:
    """Where the normalised byte of this number, from 0, stands in the file."""
    for place in range(len(data)):
        if _KEEP[data[place]]:
            if number == 0:
                return place
            number -= 1
    return len(data)


@njit(cache=True, nogil=True)
def _ones(word: np.uint64) -> int:
    count = 0
    while word:
        word &= word - np.uint64(1)
        count += 1
    return count
