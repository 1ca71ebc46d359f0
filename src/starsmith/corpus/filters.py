"""Which files are worth learning from: each filter turns a text and its statistics into the reason to drop it, or None.

Thresholds are those of StarCoder2 (Lozhkov et al. 2024, arXiv 2402.19173, section 2.1) unless a comment says otherwise.
The rules that only StarCoderData had (Li et al. 2023, arXiv 2305.06161) are off until they are given a value.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from starsmith.core.errors import ConfigError
from starsmith.corpus.files import Drop

if TYPE_CHECKING:
    from starsmith.corpus.statistics import Runs, TextStatistics  # numba, which reading a recipe does not need

_PROSE = frozenset({"HTML", "JSON", "Markdown", "Roff", "Roff Manpage", "SMT", "TeX", "Text", "XML"})
_DATA_LANGUAGES = frozenset({"Text", "JSON", "YAML", "Web Ontology Language", "Graphviz (DOT)"})
_LISTINGS = frozenset({"Motorola 68K Assembly", "WebAssembly"})  # in which digits count as letters do
_USEFUL_TEXTS = frozenset({"readme", "notes", "todo", "description", "cmakelists"})
_XML = frozenset(
    {"Ant Build System", "COLLADA", "Eagle", "Genshi", "LabVIEW", "Maven POM", "SVG", "Web Ontology Language", "XML"}
    | {"XML Property List", "XPages", "XProc", "XSLT"}
)
_XML_MARK, _XML_HEAD = "<?xml version=", 100  # characters


@dataclass(frozen=True, kw_only=True)
class FilterConfig:
    """The bounds that a file must keep; one that lies outside is a counted drop."""

    most_lines: int = 100_000  # of any file
    longest_mean_line: float = 100.0  # characters, except in prose and markup
    longest_line: int = 1000  # characters, except in prose and markup
    longest_line_in_prose: int = 100_000  # characters, in HTML, JSON, Markdown, Roff, SMT, TeX, Text and XML
    least_alphabetic: float = 0.25  # share of letters among the characters
    longest_encoded_run: int = 1024  # characters of base64, hexadecimal or \u escapes in a row
    most_encoded: float = 0.5  # share of the characters that lies in such runs
    most_lines_of_data: int = 512  # of Text, JSON, YAML, OWL and Graphviz
    least_visible_characters: int = 100  # of HTML
    least_visible_share: float = 0.2  # of HTML
    least_table_lines: int = 40  # ours: a file with so many lines of nothing but literals ...
    most_table_share: float = 0.5  # ... which are more than this share of its lines, is a table; 1.0 keeps all
    extensions_left_out: tuple[str, ...] = ()  # as ".csv"; the paper left out 130, which it does not list
    xml_elsewhere: bool = True  # keep files of other languages that begin as XML does; StarCoderData dropped them
    data_characters: tuple[int, ...] = ()  # fewest and most of JSON and YAML; StarCoderData: [100, 5000]
    comment_ratio: tuple[float, ...] = ()  # least and most share of comments; StarCoderData: [0.01, 0.8]
    least_characters_per_token: float | None = None  # of code tokens, in place of a tokenizer's fertility
    least_stars: int | None = None  # of the repository, where known; StarCoderData's ablation: 5

    def __post_init__(self) -> None:
        for name in ("least_alphabetic", "most_encoded", "least_visible_share", "most_table_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name}={getattr(self, name)}: must lie in 0 to 1", hint="give a share, as 0.25")
        for name in ("most_lines", "longest_mean_line", "longest_line", "longest_line_in_prose", "most_lines_of_data"):
            if getattr(self, name) <= 0:
                raise ConfigError(f"{name}={getattr(self, name)}: must be above 0", hint="leave it out for the paper's")
        for name in ("data_characters", "comment_ratio"):
            pair = getattr(self, name)
            if pair and (len(pair) != 2 or not 0 <= pair[0] <= pair[1]):
                raise ConfigError(f"{name}={pair}: must be [least, most]", hint="or leave it out for no bound")
        if wrong := [suffix for suffix in self.extensions_left_out if not suffix.startswith(".")]:
            raise ConfigError(f"extensions_left_out={wrong}: no extensions", hint='write them with a dot, as ".csv"')


@dataclass(slots=True)
class FilterInput:
    """What a filter may look at."""

    path: str
    language: str | None
    text: str
    content: bytes  # the text in UTF-8
    statistics: "TextStatistics"  # of the content
    stars: int | None = None  # of its repository


Filter = Callable[[FilterInput, FilterConfig], Drop | None]


def first_drop(asked: FilterInput, config: FilterConfig) -> Drop | None:
    """The first objection of any filter, in their order."""
    for _, rule in FILTERS:
        if (drop := rule(asked, config)) is not None:
            return drop
    return None


def left_out_extension(asked: FilterInput, config: FilterConfig) -> Drop | None:
    """An extension that the recipe leaves out."""
    for suffix in config.extensions_left_out:
        if asked.path.lower().endswith(suffix.lower()):
            return Drop("extension", f"{suffix} is left out by filters.extensions_left_out")
    return None


def unpopular(asked: FilterInput, config: FilterConfig) -> Drop | None:
    """A repository with few stars; one whose stars nobody knows stays."""
    least = config.least_stars
    if least is None or asked.stars is None or asked.stars >= least:
        return None
    return Drop("few_stars", f"the repository has {asked.stars:,} stars, at least {least:,} are wanted")


def long_lines(asked: FilterInput, config: FilterConfig) -> Drop | None:
    """Too many lines, or lines so long that nobody wrote them."""
    seen = asked.statistics
    if seen.lines > config.most_lines:
        return Drop("too_many_lines", f"{seen.lines:,} lines, at most {config.most_lines:,} are allowed")
    is_prose = asked.language in _PROSE
    longest = config.longest_line_in_prose if is_prose else config.longest_line
    if seen.longest_line > longest:
        place = f"line {seen.longest_line_number:,} has {seen.longest_line:,} characters"
        return Drop("long_line", f"{place}, at most {longest:,} are allowed")
    if not is_prose and seen.mean_line > config.longest_mean_line:
        wanted = f"at most {config.longest_mean_line:g} are allowed"
        return Drop("long_line", f"lines have {seen.mean_line:.1f} characters on average, {wanted}")
    return None


def not_alphabetic(asked: FilterInput, config: FilterConfig) -> Drop | None:
    """Hardly any letters."""
    seen = asked.statistics
    enough = config.least_alphabetic * seen.characters
    digits = asked.language in _LISTINGS
    letters = seen.alphabetic(asked.text, enough=enough, digits=digits)
    if letters >= enough:
        return None
    kind = "letters or digits" if digits else "letters"
    share = letters / seen.characters
    return Drop("not_alphabetic", f"{share:.1%} of the characters are {kind}, at least {config.least_alphabetic:.0%}")


def encoded_data(asked: FilterInput, config: FilterConfig) -> Drop | None:
    """Long runs of base64, hexadecimal or escaped characters."""
    seen = asked.statistics
    for kind, runs in (("base64", seen.base64), ("hexadecimal", seen.hexadecimal), ("\\u escapes", seen.escapes)):
        if runs.total and (drop := _too_encoded(kind, runs, seen.characters, config)):
            return drop
    return None


def _too_encoded(kind: str, runs: "Runs", characters: int, config: FilterConfig) -> Drop | None:
    if runs.longest > config.longest_encoded_run:
        detail = f"{runs.longest:,} characters of {kind} in a row, at most {config.longest_encoded_run:,} are allowed"
        return Drop("encoded_data", detail)
    if runs.total > config.most_encoded * characters:
        share = f"{runs.total / characters:.1%} of the characters are {kind}"
        return Drop("encoded_data", f"{share}, at most {config.most_encoded:.0%} are allowed")
    return None


def data_language(asked: FilterInput, config: FilterConfig) -> Drop | None:
    """Long files of data languages, and JSON and YAML of a size that is not wanted."""
    seen = asked.statistics
    if asked.language in _DATA_LANGUAGES and seen.lines > config.most_lines_of_data:
        detail = f"{seen.lines:,} lines of {asked.language}, at most {config.most_lines_of_data:,} are allowed"
        return Drop("long_data_file", detail)
    if config.data_characters and asked.language in ("JSON", "YAML"):
        least, most = config.data_characters
        if not least <= seen.characters <= most:
            return Drop("size_of_data", f"{seen.characters:,} characters, {least:,} to {most:,} are wanted")
    return None


def plain_text(asked: FilterInput, config: FilterConfig) -> Drop | None:  # noqa: ARG001 a filter's signature
    """Plain text whose name does not say that it is about the code."""
    if asked.language != "Text":
        return None
    name = PurePosixPath(asked.path)
    if "requirement" in name.name.lower() or name.stem.lower() in _USEFUL_TEXTS:
        return None
    return Drop("plain_text", f"{name.name} is not named {', '.join(sorted(_USEFUL_TEXTS))} or requirements")


def hidden_html(asked: FilterInput, config: FilterConfig) -> Drop | None:
    """HTML of which a reader would see little."""
    if asked.language != "HTML":
        return None
    from starsmith.corpus.signals import visible_characters

    visible = visible_characters(asked.content)
    if visible < config.least_visible_characters:
        detail = f"{visible:,} visible characters, at least {config.least_visible_characters:,} are wanted"
        return Drop("little_visible_text", detail)
    if visible < config.least_visible_share * asked.statistics.characters:
        share = f"{visible / asked.statistics.characters:.1%} of the characters are visible"
        return Drop("little_visible_text", f"{share}, at least {config.least_visible_share:.0%} are wanted")
    return None


def xml_elsewhere(asked: FilterInput, config: FilterConfig) -> Drop | None:
    """XML under the name of another language."""
    if config.xml_elsewhere or asked.language in _XML or _XML_MARK not in asked.text[:_XML_HEAD]:
        return None
    return Drop("xml", f"{_XML_MARK!r} in the first {_XML_HEAD} characters of a {asked.language} file")


def data_table(asked: FilterInput, config: FilterConfig) -> Drop | None:
    """Source code that is a table: most of its lines are literals and nothing else.

    The standard library's code pages and entity lists otherwise leak into everything that a small model writes.
    """
    seen = asked.statistics
    lines = seen.lines - seen.blank_lines
    if seen.table_lines < config.least_table_lines or seen.table_lines <= config.most_table_share * lines:
        return None
    return Drop(
        "data_table",
        f"{seen.table_lines:,} of {lines:,} lines are nothing but literals, at most {config.most_table_share:.0%}",
    )


def comment_ratio(asked: FilterInput, config: FilterConfig) -> Drop | None:
    """Hardly any comments, or hardly anything else, where the comments of the language are known."""
    if not config.comment_ratio:
        return None
    from starsmith.corpus.signals import comment_ratio as ratio_of

    least, most = config.comment_ratio
    ratio = ratio_of(asked.language, asked.content, asked.statistics)
    if ratio is None or least <= ratio <= most:
        return None
    return Drop("comment_ratio", f"{ratio:.1%} of the characters are comments, {least:.0%} to {most:.0%} are wanted")


def short_tokens(asked: FilterInput, config: FilterConfig) -> Drop | None:
    """Code tokens so short that a tokenizer, too, would need many for little text."""
    least = config.least_characters_per_token
    if least is None:
        return None
    from starsmith.corpus.signals import characters_per_token
    from starsmith.corpus.sketch import word_count

    seen = characters_per_token(asked.statistics, word_count(asked.content))
    if seen is None or seen >= least:
        return None
    return Drop("short_tokens", f"{seen:.2f} characters to a code token, at least {least:g} are wanted")


FILTERS: tuple[tuple[str, Filter], ...] = (
    ("extension", left_out_extension),
    ("stars", unpopular),
    ("long_lines", long_lines),
    ("not_alphabetic", not_alphabetic),
    ("encoded_data", encoded_data),
    ("data_language", data_language),
    ("plain_text", plain_text),
    ("hidden_html", hidden_html),
    ("xml", xml_elsewhere),
    ("data_table", data_table),
    ("comment_ratio", comment_ratio),
    ("short_tokens", short_tokens),
)
