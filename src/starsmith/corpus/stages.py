"""The stages that a file goes through, in the paper's order, each a function that lets it pass or says why not.

Read  -> encoding, language, vendored, generated, license, filters -> exact and near-duplicates ->
      -> redaction, decontamination, malware, opt_out -> written.

`explain` walks the same list, so what it tells of a file is what a build does with it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from functools import cached_property
from pathlib import Path

from starsmith.corpus import documents, encoding, languages, licenses, notebooks, vendored
from starsmith.corpus.config import CorpusConfig
from starsmith.corpus.decontamination import Decontaminator
from starsmith.corpus.files import CODE, DOCUMENTATION, NOTEBOOK, Drop, RawFile
from starsmith.corpus.filters import FilterInput, first_drop
from starsmith.corpus.malware import Scanner, find_malware, open_scanners
from starsmith.corpus.optouts import OptOuts
from starsmith.corpus.redaction import Redacted, redact
from starsmith.corpus.removal_requests import Removals
from starsmith.corpus.statistics import TextStatistics, measure

RENDERERS = {"script": notebooks.render_script, "structured": notebooks.render_structured}
_DOCUMENTS = (".html", ".htm", ".xhtml", ".md", ".markdown", ".rst", ".adoc", ".txt")


@dataclass(frozen=True)
class Rules:
    """What the stages of one build decide by; opened once in each process."""

    config: CorpusConfig
    benchmarks: Path | None = None  # artefact of benchmark texts
    removals: Removals | None = None  # files that are as though no source had them

    def check(self) -> None:
        """Raises for a list that cannot be read, before hours of work."""
        _ = self.opt_outs, self.scanners

    @cached_property
    def opt_outs(self) -> OptOuts:
        """Everybody who asked to be left out, from whenever: a corpus does not depend on the day it is made."""
        return OptOuts.load([Path(name) for name in self.config.opt_outs])

    @cached_property
    def scanners(self) -> list[Scanner]:
        """Those that look for malware."""
        return open_scanners(self.config.malware)

    @cached_property
    def decontaminator(self) -> Decontaminator | None:
        """The index of benchmark texts."""
        if self.benchmarks is None:
            return None
        return Decontaminator.load(self.benchmarks, self.config.decontamination)


@dataclass(slots=True)
class Examination:
    """A file on its way, and what the stages have found out about it so far."""

    file: RawFile
    swhid: str  # of the content that its repository has, also where `file` is a rendered form of it
    text: str = ""
    content: bytes = b""  # of the text, UTF-8
    language: str = ""
    statistics: TextStatistics | None = None
    license: licenses.Finding = licenses.NOTHING
    redacted: Redacted | None = None


Judge = Callable[[Examination, Rules], Drop | None]


@dataclass(frozen=True)
class Stage:
    """One step: `judge` fills in what it finds out, and gives the reason if the file goes no further."""

    name: str
    judge: Judge
    saw: Callable[[Examination, Rules], str]  # for a person who asks: what a file that passed had to show


def first_objection(found: Examination, rules: Rules, stages: Sequence[Stage]) -> tuple[str, Drop] | None:
    """Name of the stage that drops a file, and why; None when it passes all."""
    for stage in stages:
        if (drop := stage.judge(found, rules)) is not None:
            return stage.name, drop
    return None


def rendered_forms(file: RawFile, rules: Rules) -> list[RawFile | Drop]:
    """The files that a file stands for: itself, or what its notebook or documentation page is rendered as."""
    if file.kind != CODE:
        return [file]
    if file.path.endswith(".ipynb"):
        return [_rendered_notebook(file, form) for form in rules.config.notebooks] or [
            Drop("notebook", "a Jupyter notebook, and corpus.notebooks names no form")
        ]
    if any(fnmatch(file.path, pattern) for pattern in rules.config.documentation):
        return [_rendered_page(file)]
    return [file]


def _rendered_notebook(file: RawFile, form: str) -> RawFile | Drop:
    notebook = notebooks.read_notebook(file.content)
    rendered = notebook if isinstance(notebook, Drop) else RENDERERS[form](notebook)
    if isinstance(rendered, Drop):
        return rendered
    language = notebooks.language_of_notebook(file.content) if form == "script" else "Jupyter Notebook"
    kind = f"{NOTEBOOK}_{form}"
    return replace(
        file, content=rendered.text.encode(), controls=rendered.controls, kind=kind, language=language or file.language
    )


def _rendered_page(file: RawFile) -> RawFile | Drop:
    text = encoding.decode(file.content)
    if isinstance(text, Drop):
        return text
    rendered = documents.render_document(file.path, text)
    if isinstance(rendered, Drop):
        return rendered
    content = rendered.text.encode()
    return replace(file, content=content, controls=rendered.controls, kind=DOCUMENTATION, language="Markdown")


def _encoding(found: Examination, rules: Rules) -> Drop | None:  # noqa: ARG001 a judge's signature
    text = encoding.decode(found.file.content)
    if isinstance(text, Drop):
        return text
    found.text = text
    # Most files are ASCII, and theirs need not be made again. Equal lengths say nothing: cp1252 has a byte a character.
    found.content = found.file.content if found.file.content.isascii() else text.encode()
    return None


def _language(found: Examination, rules: Rules) -> Drop | None:
    language = found.file.language or languages.language_of(found.file.path, found.text)
    if language is None:
        return Drop("unknown_language", "neither name, first line nor text tells")
    found.language = language
    if rules.config.languages and language not in rules.config.languages:
        return Drop("other_language", f"{language} is not in corpus.languages")
    return None


def _vendored(found: Examination, rules: Rules) -> Drop | None:
    if rules.config.vendored or (pattern := vendored.is_vendored(found.file.path)) is None:
        return None
    return Drop("vendored", f"the path matches Linguist's {pattern}")


def _generated(found: Examination, rules: Rules) -> Drop | None:  # noqa: ARG001
    why = vendored.generated_by(found.file.path, found.language, found.text)
    return Drop("generated", why) if why is not None else None


def _license(found: Examination, rules: Rules) -> Drop | None:
    found.license = licenses.find_license(found.file.path, found.text, {}, found.file.license)
    return rules.config.licenses.decide(found.license)


def _filters(found: Examination, rules: Rules) -> Drop | None:
    found.statistics = measure(found.content)
    asked = FilterInput(found.file.path, found.language, found.text, found.content, found.statistics, found.file.stars)
    return first_drop(asked, rules.config.filters)


def _redaction(found: Examination, rules: Rules) -> Drop | None:
    found.redacted = redact(found.text, rules.config.redaction, found.file.controls)
    return None


def _decontamination(found: Examination, rules: Rules) -> Drop | None:
    return rules.decontaminator.judge(found.text) if rules.decontaminator is not None else None


def _malware(found: Examination, rules: Rules) -> Drop | None:
    return find_malware(rules.scanners, found.file.content, found.file.path) if rules.scanners else None


def _opt_out(found: Examination, rules: Rules) -> Drop | None:
    if not len(rules.opt_outs):
        return None
    return rules.opt_outs.match(found.file.repository, found.file.path, found.swhid)


def _saw_encoding(found: Examination, rules: Rules) -> str:  # noqa: ARG001
    lines = found.text.count("\n") + 1
    return f"{len(found.file.content):,} bytes, {len(found.text):,} characters, {lines:,} lines"


def _saw_language(found: Examination, rules: Rules) -> str:  # noqa: ARG001
    why = "given by its source" if found.file.language else languages.explain_language(found.file.path, found.text)[1]
    return f"{found.language} ({why})"


def _saw_license(found: Examination, rules: Rules) -> str:  # noqa: ARG001
    return f"{found.license.expression} ({found.license.evidence})" if found.license.expression else "none found"


def _saw_statistics(found: Examination, rules: Rules) -> str:  # noqa: ARG001
    seen = found.statistics
    assert seen is not None
    return f"longest line {seen.longest_line:,} characters, mean {seen.mean_line:.1f}; nothing outside the bounds"


def _saw_redactions(found: Examination, rules: Rules) -> str:  # noqa: ARG001
    counts = found.redacted.counts if found.redacted else {}
    return ", ".join(f"{number} {kind}" for kind, number in sorted(counts.items())) or "nothing to replace"


def _saw_benchmarks(found: Examination, rules: Rules) -> str:  # noqa: ARG001
    return "no benchmarks given" if rules.decontaminator is None else "nothing of a benchmark in it"


def _saw_malware(found: Examination, rules: Rules) -> str:  # noqa: ARG001
    return f"{len(rules.scanners)} scanners found nothing" if rules.scanners else "no scanner given"


def _saw_opt_outs(found: Examination, rules: Rules) -> str:  # noqa: ARG001
    return f"none of {len(rules.opt_outs):,} entries holds for it"


def _nothing(found: Examination, rules: Rules) -> str:  # noqa: ARG001
    return "no"


READ_STAGES = (
    Stage("encoding", _encoding, _saw_encoding),
    Stage("language", _language, _saw_language),
    Stage("vendored", _vendored, _nothing),
    Stage("generated", _generated, _nothing),
    Stage("license", _license, _saw_license),
    Stage("filters", _filters, _saw_statistics),
)
LATE_STAGES = (
    Stage("redaction", _redaction, _saw_redactions),
    Stage("decontamination", _decontamination, _saw_benchmarks),
    Stage("malware", _malware, _saw_malware),
    Stage("opt_out", _opt_out, _saw_opt_outs),
)
DUPLICATES, NEAR_DUPLICATES = "duplicates", "near_duplicates"  # between the two: they compare files
STAGE_NAMES = (
    "read",
    *(stage.name for stage in READ_STAGES),
    DUPLICATES,
    NEAR_DUPLICATES,
    *(stage.name for stage in LATE_STAGES),
)
