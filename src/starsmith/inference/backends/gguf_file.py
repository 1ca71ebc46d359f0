"""The head of a GGUF file: what model it is, and whether all of it is there.

llama.cpp reads what it is given, and with a damaged file it may end the process and every request with it. So each
number is checked here against the size of the file before llama.cpp sees it. The numbers of the weights are not read.
"""

import math
import mmap
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from starsmith.core.errors import InputError
from starsmith.inference.backends.templates import Template, recognise, spellings

MAGIC = b"GGUF"
VERSIONS = (2, 3)
SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
STRING, ARRAY = 8, 9
MOST_DIMENSIONS = 4  # of a tensor
ALIGNMENT = 32  # unless the file says otherwise
PART = re.compile(r"-(\d{5})-of-(\d{5})\.gguf$")
# Older converters' names of the roles, then today's.
ROLES = {"prefix": ("prefix", "fim_pre"), "suffix": ("suffix", "fim_suf"), "middle": ("middle", "fim_mid")}


@dataclass(frozen=True)
class GgufHead:
    """What a file says of its model."""

    path: Path
    fields: Mapping[str, Any]  # the metadata
    weights_bytes: int

    @property
    def architecture(self) -> str:
        """llama.cpp's name for the kind of network."""
        return str(self.fields.get("general.architecture", ""))

    @property
    def name(self) -> str:
        """The model's own name, or the file's."""
        return str(self.fields.get("general.name") or self.path.stem)

    @property
    def context_tokens(self) -> int:
        """Of the training; 0 where the file does not say."""
        return self.number("context_length")

    def number(self, name: str) -> int:
        """One of the network's measures; a list, of one for each layer, counts as its largest."""
        found = self.fields.get(f"{self.architecture}.{name}", 0)
        return max(
            (part for part in (found if isinstance(found, list) else [found]) if isinstance(part, int)), default=0
        )

    @property
    def end_token(self) -> int:
        """The id after which a new text begins."""
        found = self.fields.get("tokenizer.ggml.eos_token_id", 0)
        return found if isinstance(found, int) else 0

    @cached_property
    def tokens(self) -> dict[str, int]:
        """Ids of the vocabulary's tokens, as they are spelt there."""
        return {token: number for number, token in enumerate(self.fields.get("tokenizer.ggml.tokens", []))}

    @cached_property
    def template(self) -> Template | None:
        """The family's infilling format or, of an unknown family, the commonest order with the file's own tokens."""
        known = recognise(f"{self.name} {self.path.name}", self.tokens)
        roles = [self._role(role) for role in ROLES]
        spelt = {number: token for token, number in self.tokens.items()}
        if known is not None or not all(number in spelt for number in roles):
            return known
        prefix, suffix, middle = (spelt[number] for number in roles if number is not None)
        return Template(prefix=prefix, suffix=suffix, middle=middle)

    def controls(self, template: Template) -> tuple[list[int], list[int], list[int]]:
        """Ids of a template's prefix, suffix and middle token."""
        prefix, suffix, middle = map(self._control, (template.prefix, template.suffix, template.middle))
        return prefix, suffix, middle

    def kv_bytes(self, tokens: int) -> int:
        """Memory for the keys and values of so many tokens, in sixteen bits each."""
        heads = self.number("attention.head_count") or 1
        kept = self.number("attention.head_count_kv") or heads
        width = self.number("attention.key_length") or self.number("embedding_length") // heads
        return 2 * 2 * self.number("block_count") * kept * width * tokens

    def _control(self, token: str) -> list[int]:
        if not token:  # a format without a middle token
            return []
        for form in spellings(token):
            if form in self.tokens:
                return [self.tokens[form]]
        raise InputError(f"{self.path} has no token {token!r}", hint="name the family of its model")

    def _role(self, role: str) -> int | None:
        found = (self.fields.get(f"tokenizer.ggml.{name}_token_id") for name in ROLES[role])
        return next((number for number in found if isinstance(number, int)), None)


def read(path: Path) -> GgufHead:
    """The head of a file and, where the model is in several, of them all."""
    first = _read_part(path)
    parts = first.fields.get("split.count", 1)
    if not isinstance(parts, int) or parts <= 1:
        return first
    named = PART.search(path.name)
    if named is None or int(named[2]) != parts:
        raise InputError(f"{path} is one of {parts} parts, and not named so", hint="name them NAME-00001-of-0000N.gguf")
    stem = path.name[: named.start()]
    others = [path.with_name(f"{stem}-{number:05}-of-{named[2]}.gguf") for number in range(1, parts + 1)]
    if path != others[0]:
        raise InputError(f"{path} is part {int(named[1])} of {parts}", hint=f"give the first: {others[0]}")
    return GgufHead(
        path, first.fields, first.weights_bytes + sum(_read_part(part).weights_bytes for part in others[1:])
    )


def _read_part(path: Path) -> GgufHead:
    try:
        with path.open("rb") as file:
            if file.read(4) != MAGIC:
                raise InputError(f"{path} is no GGUF file: it does not begin with 'GGUF'", hint="give a .gguf file")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                return _Reader(path, content).head()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}", hint="give a .gguf file") from None


class _Reader:
    """Reads forward through a file, and never behind its end."""

    def __init__(self, path: Path, content: mmap.mmap) -> None:
        self._path = path
        self._content = content
        self._place = 4

    def head(self) -> GgufHead:
        (version,) = self._numbers("<I")
        if version not in VERSIONS:
            known = " and ".join(map(str, VERSIONS))
            raise InputError(f"{self._path} is a GGUF file of version {version}; known: {known}", hint="convert it")
        tensors, pairs = self._numbers("<QQ")
        fields: dict[str, Any] = {}
        for _ in range(pairs):
            key = self._string()
            (kind,) = self._numbers("<I")
            fields[key] = self._value(kind)
        return GgufHead(self._path, fields, self._check_tensors(tensors, fields.get("general.alignment", ALIGNMENT)))

    def _check_tensors(self, count: int, alignment: Any) -> int:
        """The bytes of all tensors, each of which must end within the file."""
        if not isinstance(alignment, int) or alignment < 1:
            raise self._damage(f"an alignment of {alignment!r}")
        extents = [self._tensor() for _ in range(count)]
        start = math.ceil(self._place / alignment) * alignment
        for name, offset, size in extents:
            if offset % alignment or start + offset + size > len(self._content):
                end = f"{start + offset + size:,}"
                raise self._damage(f"tensor {name!r} up to byte {end} of {len(self._content):,}")
        return sum(size for _, _, size in extents)

    def _tensor(self) -> tuple[str, int, int]:
        """Name, offset and bytes of one tensor."""
        from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

        name = self._string()
        (dimensions,) = self._numbers("<I")
        if dimensions > MOST_DIMENSIONS:
            raise self._damage(f"tensor {name!r} of {dimensions} dimensions")
        numbers = math.prod(self._numbers(f"<{dimensions}Q"))
        kind, offset = self._numbers("<IQ")
        try:
            block, block_bytes = GGML_QUANT_SIZES[GGMLQuantizationType(kind)]
        except (ValueError, KeyError):
            raise self._damage(f"tensor {name!r} of the unknown type {kind}") from None
        return name, offset, numbers // block * block_bytes

    def _value(self, kind: int) -> Any:
        if kind == STRING:
            return self._string()
        if kind == ARRAY:
            inner, count = self._numbers("<IQ")
            if inner == STRING:
                return [self._string() for _ in range(count)]
            self._known(inner)
            return list(self._numbers(f"<{count}{SCALARS[inner][1]}"))
        self._known(kind)
        return self._numbers(SCALARS[kind])[0]

    def _known(self, kind: int) -> None:
        if kind not in SCALARS:
            raise self._damage(f"metadata of the unknown type {kind}")

    def _string(self) -> str:
        (size,) = self._numbers("<Q")
        return self._take(size).decode("utf-8", errors="replace")

    def _numbers(self, form: str) -> tuple[Any, ...]:
        try:
            return struct.unpack(form, self._take(struct.calcsize(form)))
        except struct.error as error:  # a count that no memory could hold
            raise self._damage(str(error)) from None

    def _take(self, size: int) -> bytes:
        end = self._place + size
        if end > len(self._content):
            raise self._damage(f"{size:,} bytes from byte {self._place:,}, and ends at {len(self._content):,}")
        taken = self._content[self._place : end]
        self._place = end
        return taken

    def _damage(self, what: str) -> InputError:
        return InputError(
            f"{self._path} is cut short or damaged: it announces {what}", hint="copy or download it again"
        )
