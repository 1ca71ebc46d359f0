"""The settings of a corpus: one table of a recipe, with a sub-table for each concern that has more than a setting."""

from dataclasses import dataclass, field
from difflib import get_close_matches

from starsmith.core.errors import ConfigError
from starsmith.corpus.decontamination import DecontaminationConfig
from starsmith.corpus.duplicates import DuplicateConfig
from starsmith.corpus.filters import FilterConfig
from starsmith.corpus.languages import known_languages
from starsmith.corpus.malware import MalwareConfig
from starsmith.corpus.optouts import is_date
from starsmith.corpus.policy import LicensePolicy
from starsmith.corpus.redaction import RedactionConfig
from starsmith.corpus.sampling import SamplingConfig
from starsmith.corpus.threads import ThreadConfig

NOTEBOOK_FORMS = ("script", "structured")


@dataclass(frozen=True, kw_only=True)
class CorpusConfig:
    """What is let into a corpus, and in which form."""

    languages: tuple[str, ...] = ()  # only these, by Linguist's names; none means every language
    largest_bytes: int = 1_000_000  # of a file; the paper reads up to 10 MiB
    vendored: bool = False  # keep other people's code that lies in a repository, by Linguist's list
    notebooks: tuple[str, ...] = NOTEBOOK_FORMS  # forms that a Jupyter notebook is rendered in; none leaves it out
    documentation: tuple[str, ...] = ()  # path patterns, as "docs/*.html": what is rendered as documentation
    opt_outs: tuple[str, ...] = ()  # files with lists of those who are left out
    opt_outs_as_of: str = ""  # the day on which the lists were fetched, as 2026-01-31: `verify` can ask for recent ones
    held_out: float = 0.03  # share of the files that is never trained on; above 0, one of several files at least
    licenses: LicensePolicy = field(default_factory=LicensePolicy)
    filters: FilterConfig = field(default_factory=FilterConfig)
    duplicates: DuplicateConfig = field(default_factory=DuplicateConfig)
    redaction: RedactionConfig = field(default_factory=RedactionConfig)
    decontamination: DecontaminationConfig = field(default_factory=DecontaminationConfig)
    malware: MalwareConfig = field(default_factory=MalwareConfig)
    threads: ThreadConfig = field(default_factory=ThreadConfig)
    sampling: SamplingConfig = field(default_factory=SamplingConfig)

    def __post_init__(self) -> None:
        if not 0 <= self.held_out < 1:
            raise ConfigError(f"held_out={self.held_out}: must be at least 0 and below 1", hint="the default is 0.03")
        if self.largest_bytes < 1:
            raise ConfigError(f"largest_bytes={self.largest_bytes}: must be at least 1", hint="the default is 1000000")
        if self.opt_outs_as_of and not is_date(self.opt_outs_as_of):
            raise ConfigError(f"opt_outs_as_of={self.opt_outs_as_of!r}: no date", hint="write it as 2026-01-31")
        if unknown := sorted(set(self.notebooks) - set(NOTEBOOK_FORMS)):
            raise ConfigError(
                f"notebooks={unknown}: no forms of a notebook", hint=f"known: {', '.join(NOTEBOOK_FORMS)}"
            )
        if unknown := sorted(set(self.languages) - set(known_languages())):
            near = get_close_matches(unknown[0], known_languages(), n=1)
            hint = f"did you mean {near[0]!r}?" if near else "names as GitHub Linguist has them, for example 'C++'"
            raise ConfigError(f"languages={unknown}: no languages that Linguist knows", hint=hint)
