"""A place in a file becomes a CompletionRequest with the manners an editor expects: short, and ending in time.

Editors send what stands before and after the cursor. The order is SPM, suffix first: while a person types, only the
end of the prompt changes, so an engine that keeps its cache reads one or two tokens per key instead of hundreds.
"""

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, Field, StringConstraints

from starsmith.inference.backends.templates import TEMPLATES
from starsmith.inference.completion import CompletionRequest
from starsmith.inference.engine import SamplingParams
from starsmith.inference.trimming import Manners
from starsmith.tokenizer.bpe import SPECIAL_TOKENS
from starsmith.tokenizer.fim import STOP_TOKENS, PromptLayout, Repository

EDITOR_LAYOUT: PromptLayout = "spm"
EDITOR_MANNERS = Manners.of_editor()
EDITOR_TOKENS = 64  # about five lines; more is rarely read, and never accepted whole
CLOSERS = " \t\r)]}>\"'`;,:"  # what may follow the cursor on its line without making it the middle of a line

# Words that begin a new top-level item: after one of these at the start of a line the completion is over.
TOP_LEVEL = {
    "python": ("def ", "class ", "async def ", "import ", "from ", "@", "if __name__"),
    "javascript": ("function ", "class ", "export ", "import "),
    "typescript": ("function ", "class ", "export ", "import ", "interface ", "type "),
    "java": ("public ", "class ", "interface ", "import ", "package "),
    "go": ("func ", "type ", "import ", "package ", "var "),
    "rust": ("fn ", "pub ", "impl ", "struct ", "enum ", "use ", "mod "),
    "c": ("#include", "typedef ", "static "),
    "cpp": ("#include", "template", "namespace ", "class ", "static "),
}
ALIASES = {"javascriptreact": "javascript", "typescriptreact": "typescript", "c++": "cpp"}
EXTENSIONS = {
    "python": ("py", "pyi"),
    "javascript": ("js", "mjs", "jsx"),
    "typescript": ("ts", "tsx"),
    "java": ("java",),
    "go": ("go",),
    "rust": ("rs",),
    "c": ("c", "h"),
    "cpp": ("cc", "cpp", "hpp"),
}


def check_unicode(text: str) -> str:
    """The text, unless it has half a surrogate pair, which JSON can write and no tokenizer can read."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(f"character {error.start} is half a surrogate pair") from None
    return text


Text = Annotated[str, AfterValidator(check_unicode)]
User = Annotated[Text, StringConstraints(max_length=256)]  # of an editor or a program, who asks


class Extras(BaseModel):
    """What a request may ask of this server beside its protocol, under `starsmith`."""

    manners: list[Literal["end_of_block", "no_repeated_suffix", "no_extra_closers", "no_repetition"]] | None = Field(
        default=None, max_length=16
    )  # the rules of `inference.trimming` to hold; None: the protocol's own

    def manners_or(self, default: Manners) -> Manners:
        """The rules that hold for this request."""
        return default if self.manners is None else Manners(**dict.fromkeys(self.manners, True))


NO_EXTRAS = Extras()


def editor_request(
    prefix: str,
    suffix: str,
    *,
    language: str | None = None,
    max_tokens: int = EDITOR_TOKENS,
    temperature: float = 0.0,
    seed: int | None = None,
    manners: Manners = EDITOR_MANNERS,
    repository: Repository | None = None,
    session: str | None = None,
) -> CompletionRequest:
    """What to ask for at a cursor. The texts are data: a `<fim_prefix>` typed by a user stays text."""
    params = SamplingParams(max_tokens=max_tokens, temperature=temperature, seed=seed, stop_tokens=STOP_TOKENS)
    return CompletionRequest(
        prefix=prefix,
        suffix=suffix,
        layout=EDITOR_LAYOUT,
        repository=repository,
        stop=editor_stops(language, suffix),
        manners=manners,
        session=session,
        params=params,
    )


def editor_stops(language: str | None, suffix: str) -> tuple[str, ...]:
    """Texts that end a completion: the line when the cursor is in the middle of one, else the paragraph."""
    if suffix.split("\n", 1)[0].strip(CLOSERS):
        return ("\n",)
    name = (language or "").lower()
    words = TOP_LEVEL.get(ALIASES.get(name, name), ())
    return ("\n\n", "\n\r\n", *(f"\n{word}" for word in words))


def language_of(file_name: str) -> str | None:
    """The language an extension stands for, if it is one whose manners are known."""
    extension = file_name.rpartition(".")[2].lower()
    return next((language for language, known in EXTENSIONS.items() if extension in known), None)


def has_control_tokens(prompt: str, *, foreign: bool = False) -> bool:
    """True for a prompt whose author rendered the infilling format into it, as Continue and llm-ls do.

    foreign  whether it may be any family's: the model is not ours
    """
    others = (token for template in TEMPLATES.values() for token in template.ends) if foreign else ()
    return any(token in prompt for token in (*SPECIAL_TOKENS, *others))
