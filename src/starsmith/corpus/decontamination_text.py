"""What decontamination compares: a file's bytes without white space and case, and its tokens with the variables hidden.

Short loops, one after the other: each is simple enough to be compiled to vector instructions, or else it is free of
branches, which the processor could not foresee.

Shapes: B bytes of a file, M bytes without white space, T tokens.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from starsmith.core.hashing import BYTE_CLASSES, SPACE, WORD

HIDDEN = np.uint64(0x2545F4914F6CDD1D)  # stands for every variable

_NAME, _DEFINING, _CALL, _QUOTE = np.uint8(1), np.uint8(2), np.uint8(4), np.uint8(8)  # of a token; 0 for any other

# Odd. Of 3234 seconds tried, the first that gives each keyword a slot of its own.
_MIX_1, _MIX_2 = np.uint64(0x9E3779B97F4A7C15), np.uint64(0x5B24E033DBA0B43B)
_LOW_BITS, _HIGH_BITS = np.uint64(0x0101010101010101), np.uint64(0x8080808080808080)
_ONE = np.uint64(1)
_KIND_BITS = np.uint64(3)  # in the low bits of a keyword's hash: how its kind differs from a name's
_SLOTS, _SLOT_SHIFT = 1 << 10, np.uint64(64 - 10)

# Words of many languages that no renaming touches. A word after a defining one is a name although "(" follows it.
DEFINING_WORDS = "def fn func function fun sub proc define class struct"
KEYWORDS = """
    return for foreach in of if else elif elsif elseif then fi do done while until loop end begin case when switch
    match default break continue next last pass yield and or not is None nil null undefined True False self this new
    import from as use using include require package module namespace lambda try except catch finally raise throw with
    assert global nonlocal del async await let mut const var val local my static final public private protected void
    int long short float double char bool boolean byte unsigned string str list dict set tuple array vector map auto
    uint8_t int64_t size_t i32 i64 u8 u64 usize f64 any all object number
"""


def _lower_case() -> NDArray[np.uint8]:
    return np.array([byte + 32 if ord("A") <= byte <= ord("Z") else byte for byte in range(256)], np.uint8)


def _mixed(word: int) -> int:
    """The plain version of `_mix`."""
    word = word * int(_MIX_1) % 2**64
    word = (word ^ (word >> 29)) * int(_MIX_2) % 2**64
    return word ^ (word >> 32)


def word_hash(word: bytes) -> int:
    """The plain version of what `read` makes of a token that it does not hide."""
    value = _mixed(int.from_bytes(word[:8], "little"))
    for start in range(8, len(word) + (len(word) % 8 == 0), 8):  # a whole word of bytes is followed by another, empty
        value = _mixed(value ^ int.from_bytes(word[start : start + 8], "little"))
    return value


def _keyword_table() -> NDArray[np.uint64]:
    """Hashes of the keywords, each in a slot of its own (a test holds that); the low bits tell the kind."""
    slots = np.zeros(_SLOTS, np.uint64)
    for kind, words in ((_DEFINING, DEFINING_WORDS), (np.uint8(0), KEYWORDS)):
        for word in words.split():
            value = word_hash(word.lower().encode())
            slots[value >> int(_SLOT_SHIFT)] = (value & ~int(_KIND_BITS)) | int(kind ^ _NAME)
    return slots


def _first_byte_kinds() -> NDArray[np.uint8]:
    """Kind of a token by its first byte, a keyword's that of a name."""
    kinds = np.where(BYTE_CLASSES == WORD, _NAME, np.uint8(0))
    kinds[ord("0") : ord("9") + 1] = 0
    kinds[ord("(")] = _CALL
    kinds[[ord(mark) for mark in ".\"'"]] = _QUOTE
    return kinds


_LOWER = _lower_case()
_KEYWORD_SLOTS, _KINDS = _keyword_table(), _first_byte_kinds()


@njit(cache=True, nogil=True)
def normalise_each(data: NDArray[np.uint8], bounds: NDArray[np.int64]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Texts that lie one after the other, normalised, and the bounds of each."""
    out, found = np.empty(len(data), np.uint8), np.zeros(len(bounds), np.int64)
    for text in range(len(bounds) - 1):
        normal, _, _ = read(data[bounds[text] : bounds[text + 1]])
        found[text + 1] = found[text] + len(normal)
        out[found[text] : found[text + 1]] = normal
    return out[: found[-1]], found


@njit(cache=True, nogil=True)
def byte_of(data: NDArray[np.uint8], number: int) -> int:
    """Where the normalised byte of this number, from 0, stands in the file."""
    for place in range(len(data)):
        if BYTE_CLASSES[data[place]] != SPACE:
            if number == 0:
                return place
            number -= 1
    return len(data)


@njit(cache=True, nogil=True)
def token_end(data: NDArray[np.uint8], start: int) -> int:
    """Where the token that begins at `start` ends."""
    end = start + 1
    while BYTE_CLASSES[data[start]] == WORD and end < len(data) and BYTE_CLASSES[data[end]] == WORD:
        end += 1
    return end


@njit(cache=True, nogil=True)
def lower_at(data: NDArray[np.uint8], place: int) -> np.uint8:
    """The byte at `place`, a capital of ASCII in lower case."""
    return np.uint8(_LOWER[data[place]])


@njit(cache=True, nogil=True)
def word_at(data: NDArray[np.uint8], place: np.uint64) -> np.uint64:
    """Eight bytes from `place`, as one number: compiled to a single load."""
    word = np.uint64(0)
    for step in range(8):
        word |= np.uint64(data[place + np.uint64(step)]) << np.uint64(8 * step)
    return word


@njit(cache=True, nogil=True)
def read(data: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.uint64], NDArray[np.uint32]]:
    """(M,) what is left of the bytes, (T,) values of tokens, a variable's all HIDDEN, and where each token begins."""
    words = _words(data)
    starts = _starts(data, words)
    normal, size = np.empty(len(data) + 16, np.uint8), np.uint64(0)
    values, kinds = np.empty(len(starts), np.uint64), np.zeros(len(starts) + 2, np.uint8)
    for token in range(np.uint64(len(starts))):
        start = np.uint64(starts[token])
        byte = data[start]
        word, length = _first_bytes(words, start)
        _put(normal, size, word if length else np.uint64(byte))
        value = _mix(word if length else np.uint64(byte))
        size += max(length, _ONE)
        if length == 8:
            value, size = _long_word(words, start, value, normal, size)
        keyword = _KEYWORD_SLOTS[value >> _SLOT_SHIFT]
        change = np.uint8(keyword & _KIND_BITS) if (keyword ^ value) <= _KIND_BITS else np.uint8(0)
        kinds[token + _ONE] = _KINDS[byte] ^ change
        values[token] = value
    _hide(values, kinds)
    return normal[:size], values, starts


@njit(cache=True, nogil=True)
def _first_bytes(words: NDArray[np.uint8], start: np.uint64) -> tuple[np.uint64, np.uint64]:
    """The first eight bytes from `start`, or those before the first 0, as one number, and how many they are."""
    word = word_at(words, start)
    ends = (word - _LOW_BITS) & ~word & _HIGH_BITS  # its lowest bit is that of the first 0
    inside = (ends & (~ends + _ONE)) - _ONE
    return word & inside, (((inside >> np.uint64(7)) & _LOW_BITS) * _LOW_BITS) >> np.uint64(56)


@njit(cache=True, nogil=True)
def _put(normal: NDArray[np.uint8], size: np.uint64, word: np.uint64) -> None:
    """Eight bytes at `size`, in a single store."""
    for step in range(8):
        normal[size + np.uint64(step)] = np.uint8(word >> np.uint64(8 * step))


@njit(cache=True, nogil=True)
def _words(data: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(B + 16,) the bytes of words in lower case, and 0 for all others."""
    words = np.empty(len(data) + 16, np.uint8)
    for place in range(len(data)):
        byte = data[place]
        upper = (byte >= 65) & (byte <= 90)
        is_word = ((byte >= 97) & (byte <= 122)) | upper | ((byte >= 48) & (byte <= 57)) | (byte == 95) | (byte >= 128)
        words[place] = (byte | np.uint8(32) if upper else byte) if is_word else np.uint8(0)
    words[len(data) :] = 0
    return words


@njit(cache=True, nogil=True)
def _starts(data: NDArray[np.uint8], words: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """(T,) where tokens begin: words, and every mark."""
    begins = np.zeros(len(data), np.uint8)
    for place in range(len(data)):
        mark = (words[place] == 0) & (data[place] > 32) & (data[place] != 127)
        begins[place] = mark | ((words[place] != 0) & ((words[place - 1] == 0) | (place == 0)))
    starts = np.empty(len(data) + 1, np.uint32)
    count = np.uint64(0)
    for place in range(np.uint64(len(data))):
        starts[count] = place
        count += np.uint64(begins[place])
    return starts[:count]


@njit(cache=True, nogil=True)
def _mix(word: np.uint64) -> np.uint64:
    word *= _MIX_1
    word = (word ^ (word >> np.uint64(29))) * _MIX_2
    return word ^ (word >> np.uint64(32))


@njit(cache=True, nogil=True)
def _long_word(
    words: NDArray[np.uint8], start: np.uint64, value: np.uint64, normal: NDArray[np.uint8], size: np.uint64
) -> tuple[np.uint64, np.uint64]:
    """Hash of a word of eight bytes or more, of which `value` is that of the first eight, and the size with it."""
    length = np.uint64(8)
    while length == 8:
        start += np.uint64(8)
        word, length = _first_bytes(words, start)
        _put(normal, size, word)
        value = _mix(value ^ word)
        size += length
    return value, size


@njit(cache=True, nogil=True)
def _hide(values: NDArray[np.uint64], kinds: NDArray[np.uint8]) -> None:
    """Give every name that is a variable, by what stands beside it, the same value.

    A word beside a word is prose or a declaration, one after a dot or a quote is an attribute or content, and one
    before a parenthesis is a call: those keep their values. `kinds` has one more before the first and after the last.
    """
    for token in range(len(values)):
        before, kind, after = kinds[token], kinds[token + 1], kinds[token + 2]
        called = ((after & _CALL) != 0) & ((before & _DEFINING) == 0)
        kept = called | ((before & _QUOTE) != 0) | (((before | after) & _NAME) != 0) | ((kind & _NAME) == 0)
        values[token] = values[token] if kept else HIDDEN
