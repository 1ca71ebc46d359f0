"""Infilling formats of other people's models. Our own, and StarCoder2's, is defined in `tokenizer/fim.py`.

Each family was trained with its own control tokens and order; another family's gives worse text without an error.
P is the text before the cursor, S the text after it:

family       prompt                                                        models
starcoder    <fim_prefix> P <fim_suffix> S <fim_middle>                    StarCoder 1 and 2
  (spm)      <fim_prefix> <fim_suffix> S <fim_middle> P                    the same (fim.py's "variant 2")
qwen         <|fim_prefix|> P <|fim_suffix|> S <|fim_middle|>              Qwen2.5-Coder, Qwen3-Coder, CodeGemma
deepseek     <｜fim▁begin｜> P <｜fim▁hole｜> S <｜fim▁end｜>                DeepSeek-Coder 1 and V2
granite      as starcoder, in the first order only                         Granite Code, Stable Code
codellama    <PRE> P <SUF> S <MID>                                         Code Llama 7B and 13B
codestral    [SUFFIX] S [PREFIX] P                                         Codestral
santacoder   <fim-prefix> P <fim-suffix> S <fim-middle>                    SantaCoder
mellum       <fim_suffix> S <fim_prefix> P <fim_middle>                    Mellum, whose tokens are spelt as StarCoder's
"""

from collections.abc import Collection
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Generic, Literal, TypeVar

from starsmith.core.errors import ConfigError
from starsmith.tokenizer.fim import PromptLayout

Order = Literal["psm", "suffix-first"]
Part = TypeVar("Part", str, list[int])

SUFFIX_SHARE = 4  # the suffix keeps up to a quarter of the room


@dataclass(frozen=True)
class Around(Generic[Part]):
    """What stands around a cursor, as text or as ids."""

    before: Part
    after: Part
    typed: Part  # of an anchored prompt: what is written of the cursor's line, which then is not in `before`


@dataclass(frozen=True, kw_only=True)
class Template:
    """How a family of models is asked to infill."""

    prefix: str  # control token before the text before the cursor ...
    suffix: str  # ... before the text after it ...
    middle: str  # ... and after both; "" where there is none
    order: Order = "psm"
    spm: bool = False  # trained on "variant 2", too, which keeps a cache warm while somebody types
    stops: tuple[str, ...] = ()  # other control tokens at which a completion ends; not "</s>", which is HTML as well

    @property
    def controls(self) -> tuple[str, ...]:
        """Every control token that the format has, those that end a completion included."""
        return tuple(token for token in (self.prefix, self.suffix, self.middle, *self.stops) if token)

    @property
    def ends(self) -> tuple[str, ...]:
        """What a completion ends before, as it would stand in text."""
        return tuple(token.strip() for token in self.controls)

    def arrange(self, around: "Around[Part]", controls: tuple[Part, Part, Part], layout: PromptLayout) -> list[Part]:
        """The parts of a prompt in order, as text or as ids; `controls` are prefix, suffix and middle."""
        prefix, suffix, middle = controls
        if self.order == "suffix-first":
            return [suffix, around.after, prefix, around.before, middle, around.typed]
        if layout == "spm" and self.spm:
            return [prefix, suffix, around.after, middle, around.before, around.typed]
        return [prefix, around.before, suffix, around.after, middle, around.typed]

    def render(self, around: "Around[str]", layout: PromptLayout) -> str:
        """The prompt as one text, for a server that reads control tokens in it.

        There is no way to quote a control token there, so one that stands in the user's text gets a space inside.
        """
        safe = Around(*map(self._defuse, (around.before, around.after, around.typed)))
        return "".join(self.arrange(safe, (self.prefix, self.suffix, self.middle), layout))

    def _defuse(self, text: str) -> str:
        for bare in self.ends:
            text = text.replace(bare, f"{bare[0]} {bare[1:]}")
        return text


_STARCODER_STOPS = ("<|endoftext|>", "<fim_pad>", "<file_sep>", "<repo_name>")

TEMPLATES = {
    "starcoder": Template(
        prefix="<fim_prefix>", suffix="<fim_suffix>", middle="<fim_middle>", spm=True, stops=_STARCODER_STOPS
    ),
    "qwen": Template(
        prefix="<|fim_prefix|>",
        suffix="<|fim_suffix|>",
        middle="<|fim_middle|>",
        stops=("<|endoftext|>", "<|fim_pad|>", "<|file_sep|>", "<|file_separator|>", "<|repo_name|>", "<|im_end|>"),
    ),
    "deepseek": Template(
        prefix="<｜fim▁begin｜>", suffix="<｜fim▁hole｜>", middle="<｜fim▁end｜>", stops=("<｜end▁of▁sentence｜>",)
    ),
    "granite": Template(prefix="<fim_prefix>", suffix="<fim_suffix>", middle="<fim_middle>", stops=_STARCODER_STOPS),
    # The spaces are SentencePiece's: it begins a text, and its own tokens, with one.
    "codellama": Template(prefix="<PRE> ", suffix=" <SUF>", middle=" <MID>", stops=(" <EOT>",)),
    "codestral": Template(prefix="[PREFIX]", suffix="[SUFFIX]", middle="", order="suffix-first"),
    "santacoder": Template(
        prefix="<fim-prefix>", suffix="<fim-suffix>", middle="<fim-middle>", stops=("<|endoftext|>", "<fim-pad>")
    ),
    "mellum": Template(
        prefix="<fim_prefix>",
        suffix="<fim_suffix>",
        middle="<fim_middle>",
        order="suffix-first",
        stops=_STARCODER_STOPS,
    ),
}

# Names that say more than the vocabulary: these have StarCoder's tokens, and were trained on other orders.
BY_NAME = {"mellum": "mellum", "granite": "granite", "stable-code": "granite", "stable code": "granite"}


def named(name: str) -> Template:
    """The template of a family."""
    if name in TEMPLATES:
        return TEMPLATES[name]
    near = get_close_matches(name, TEMPLATES, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(TEMPLATES)}"
    raise ConfigError(f"there is no infilling template {name!r}", hint=hint)


def recognise(model: str, vocabulary: Collection[str]) -> Template | None:
    """The template of a model, by the control tokens in its vocabulary and, where families share them, by its name."""
    for part, family in BY_NAME.items():
        if part in model.lower():
            template = TEMPLATES[family]
            return template if _knows(vocabulary, template) else None
    return next((template for template in TEMPLATES.values() if _knows(vocabulary, template)), None)


def _knows(vocabulary: Collection[str], template: Template) -> bool:
    needed = [token for token in (template.prefix, template.suffix, template.middle) if token]
    return all(any(form in vocabulary for form in spellings(token)) for token in needed)


def spellings(token: str) -> tuple[str, str]:
    """A control token as a vocabulary may have it: SentencePiece puts "▁", its space, before a word."""
    return token.strip(), f"▁{token.strip()}"


def fit(around: Around[Part], room: int) -> Around[Part]:
    """What fits into `room` characters or tokens: the outer ends are left out, as `fim.infill_prompt` does."""
    room = max(room, 0)
    typed = around.typed[max(len(around.typed) - room, 0) :]
    room -= len(typed)
    kept_after = min(len(around.after), max(room // SUFFIX_SHARE, room - len(around.before)))
    kept_before = room - kept_after
    before = around.before[max(len(around.before) - kept_before, 0) :]
    return Around(before, around.after[:kept_after], typed)
