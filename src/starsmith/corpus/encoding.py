"""The text of a file: its bytes decoded, or the reason why they are no text.

Line ends stay as they are. A text of ours encodes back to the bytes of its file (but for a byte order mark), so hashes,
offsets and the SWHID stay true, and a model that never saw CRLF would break the files of those who use it.

UTF-8 is tried first and nearly always right. Of older files some declare their encoding; for the rest the bytes are
read in each encoding that source code is known to come in, and judged by how much of what is not ASCII is then made of
the characters that its language is mostly written with.
"""

import codecs
import re
from collections.abc import Callable
from functools import cache

from starsmith.corpus.files import Drop

_MARKS = (  # UTF-32's little-endian mark begins with UTF-16's
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_DECLARED_WITHIN = 1024  # bytes; editors and Python look at the first lines only
_DECLARATION = re.compile(rb"""(?:\bcoding[:=][ \t]*|\b(?:encoding|charset)=["']?)([-\w.]{1,40})""")
_SAMPLE = 4096  # bytes of lines with something else than ASCII in them; more do not change the judgement
_OTHER_LINES = re.compile(rb"[^\n]{0,500}[\x80-\xff][^\n]{0,500}\n?")
_OTHER = re.compile(r"[^\x00-\x7f]")

# The least share of characters that speaks for the encoding. Below it a guess would be wrong about as often as right.
_CONFIDENT = 0.8
_FEWEST_WIDE = 4  # East Asian characters; fewer fit several encodings equally well

# Undeclared cp1250 and ISO 8859-2 are not here: they cannot be told from cp1252 by so few letters.
_GUESSES = ("cp1252", "cp1251", "koi8_r", "euc_jp", "cp932", "cp949", "gb18030", "big5")
_WIDE = frozenset({"euc_jp", "cp932", "cp949", "gb18030", "big5"})
# What a file may declare and we decode; anything else that it names, such as rot13 or utf-7, is not taken for an answer.  # noqa: E501
_DECLARABLE = frozenset(
    codecs.lookup(name).name
    for name in (*_GUESSES, "latin-1", "cp1250", "cp1253", "cp1254", "cp1255", "cp1256", "cp1257", "cp437", "cp850", "cp866",  # noqa: E501
                 "iso8859-2", "iso8859-5", "iso8859-7", "iso8859-9", "iso8859-15", "koi8_u", "mac_roman", "gbk", "gb2312",  # noqa: E501
                 "shift_jis", "euc_kr", "iso2022_jp")
)  # fmt: skip

# Accented letters stand alone between ASCII ones, sometimes in pairs; a longer run is another script, read wrongly.
_WESTERN = re.compile(r"(?<![^\x00-\x7f])[À-ÖØ-öø-ÿŒœŠšŽžŸ©®°§«»…–—‘’“”‚„•€£¥±µ²·¿¡ºª×´\xa0]{1,2}(?![^\x00-\x7f])")
# Characters that only misread text has inside of words: Polish `¹³¿`, say, is `ąłż`.
_MISREAD = re.compile(r"[A-Za-z][¹³¿¼¾¶¯¢£¥œ][a-z]")
# Capitals come first, as they do in words: KOI8-R read as cp1251 has them last. Few words have one letter.
_RUSSIAN = re.compile(r"[А-ЯЁ]?[а-яё]{2,}|\b[АВИКОСУЯавикосуя]\b")
_RUSSIAN_WORD = re.compile(r"[а-яё]{3}")
_KANA = re.compile(r"[\u3041-\u30fe]")
_JAPANESE = re.compile(r"[\u3001-\u30fe\u4e00-\u9fff\uff01-\uff5e]")
_KOREAN = re.compile(r"[\uac00-\ud7a3]")
_WIDE_PUNCTUATION = re.compile(r"[\u2010-\u203b\u3000-\u3011\uff01-\uff5e]")


def decode(content: bytes) -> str | Drop:
    """Return the text without its byte order mark, or why there is none: `empty`, `binary` or `unknown_encoding`."""
    if not content:
        return Drop("empty", "the file has 0 bytes, at least 1 is wanted")
    for mark, encoding in _MARKS:
        if content.startswith(mark):
            return _decode_marked(content[len(mark) :], encoding)
    if b"\0" in content:
        return Drop("binary", f"byte {content.index(0):,} is NUL, which no text has")
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        return _decode_older(content, error)
    if text[0] != "\ufeff":
        return text
    return text[1:] or Drop("empty", "the file has nothing but a byte order mark")


def _decode_marked(content: bytes, encoding: str) -> str | Drop:
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        return Drop(
            "unknown_encoding", f"its mark says {encoding}, but byte {error.start:,} after it is not: {error.reason}"
        )
    if not text:
        return Drop("empty", "the file has nothing but a byte order mark")
    if "\0" in text:
        return Drop("binary", f"character {text.index(chr(0)):,} of the {encoding} text is NUL")
    return text


def _decode_older(content: bytes, error: UnicodeDecodeError) -> str | Drop:
    """Decode what is not UTF-8, by what it declares or else by what fits it best."""
    wrong = f"byte {error.start:,} (0x{content[error.start]:02x}) is not UTF-8"
    sample = _sample(content)
    if _is_broken_utf8(sample):
        return Drop("unknown_encoding", f"{wrong}, though most of the rest is")
    declared = _declared(content)
    if declared and (text := _try(content, declared)) is not None:
        return text
    share, encoding = max(((_share(sample, name), name) for name in _GUESSES), key=lambda guess: guess[0])
    if share < _CONFIDENT:
        return Drop(
            "unknown_encoding", f"{wrong}; {encoding} fits best, to {share:.0%}, at least {_CONFIDENT:.0%} are wanted"
        )
    text = _try(content, encoding)
    return (
        text
        if text is not None
        else Drop("unknown_encoding", f"{wrong}, and in {encoding}, which fits best, it is cut")
    )


def _sample(content: bytes) -> bytes:
    """Collect lines that have more than ASCII in them."""
    lines, size = [], 0
    for line in _OTHER_LINES.finditer(content):
        lines.append(line.group())
        size += len(lines[-1])
        if size >= _SAMPLE:
            break
    return b"".join(lines)[:_SAMPLE]


def _is_broken_utf8(sample: bytes) -> bool:
    """Tell a few bad bytes in UTF-8 from another encoding, whose letters are UTF-8 by chance only."""
    others = _OTHER.findall(sample.decode(errors="replace"))
    return others.count("\ufffd") * 2 < len(others)


def _declared(content: bytes) -> str | None:
    found = _DECLARATION.search(content, 0, _DECLARED_WITHIN)
    if not found:
        return None
    try:
        name = codecs.lookup(found[1].decode("ascii", "replace")).name
    except LookupError:
        return None
    return name if name in _DECLARABLE else None


def _try(content: bytes, encoding: str) -> str | None:
    try:
        return content.decode(encoding)
    except UnicodeDecodeError:
        return None


def _share(sample: bytes, encoding: str) -> float:
    """How much of what is not ASCII is what the encoding's language is mostly written with, from 0 to 1."""
    try:
        text = codecs.getincrementaldecoder(encoding)().decode(sample)  # the sample may end within a character
    except UnicodeDecodeError:
        return 0.0
    others = len(_OTHER.findall(text))
    if others < (_FEWEST_WIDE if encoding in _WIDE else 1):
        return 0.0
    return _EVIDENCE[encoding](text) / others


def _western(text: str) -> int:
    """Count accented letters and signs; mostly pairs would be single characters of an East Asian encoding."""
    lengths = [len(run) for run in _WESTERN.findall(text)]
    return 0 if _MISREAD.search(text) or 2 * lengths.count(2) > len(lengths) else sum(lengths)


def _russian(text: str) -> int:
    return sum(map(len, _RUSSIAN.findall(text))) if _RUSSIAN_WORD.search(text) else 0


def _japanese(text: str) -> int:
    """Count kana and kanji; text without kana is Chinese or misread."""
    known = len(_JAPANESE.findall(text))
    return known if 4 * len(_KANA.findall(text)) >= known else 0


def _korean(text: str) -> int:
    """Count Hangul, nine in ten at least: six in ten of the Chinese in GB 2312 are Hangul when misread."""
    known, others = len(_KOREAN.findall(text)), len(_OTHER.findall(text)) - len(_WIDE_PUNCTUATION.findall(text))
    return known + len(_WIDE_PUNCTUATION.findall(text)) if 10 * known >= 9 * others else 0


def _simplified(text: str) -> int:
    """Count the common characters; with kana they are Japanese in EUC, which has them in the same rows."""
    return 0 if _KANA.search(text) else _count(text, _common("gb18030"))


def _traditional(text: str) -> int:
    return _count(text, _common("big5"))


def _count(text: str, common: frozenset[str]) -> int:
    return sum(character in common for character in text) + len(_WIDE_PUNCTUATION.findall(text))


@cache
def _common(encoding: str) -> frozenset[str]:
    """List the characters of level 1, those in common use, which both standards have in rows of their own."""
    first, last, tails = (0xB0, 0xD7, (0xA1,)) if encoding == "gb18030" else (0xA4, 0xC6, (0x40, 0xA1))
    pairs = (bytes((row, cell)) for row in range(first, last + 1) for tail in tails
             for cell in range(tail, 0x7F if tail == 0x40 else 0xFF))  # fmt: skip
    return frozenset(pair.decode(encoding, "ignore") for pair in pairs) - {""}


# Of equal shares the first wins. Hangul in EUC are common Chinese characters in GB 2312, so Korean is asked first.
_EVIDENCE: dict[str, Callable[[str], int]] = {
    "cp1252": _western,
    "cp1251": _russian,
    "koi8_r": _russian,
    "euc_jp": _japanese,
    "cp932": _japanese,
    "cp949": _korean,
    "gb18030": _simplified,
    "big5": _traditional,
}
