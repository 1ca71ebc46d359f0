"""The head of a GGUF file, whole and damaged."""

import struct
from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFWriter
from hypothesis import given, settings
from hypothesis import strategies as st

from starsmith.core.errors import InputError
from starsmith.inference.backends import gguf_file
from starsmith.inference.backends.templates import TEMPLATES, Template

TOKENS = ["<s>", "</s>", "▁def", "▁<PRE>", "▁<SUF>", "▁<MID>", "▁<EOT>"]


def write(
    path: Path, *, tokens: list[str] = TOKENS, name: str = "a model", roles: dict[str, int] | None = None
) -> Path:
    """A small file, by the format's own package."""
    writer = GGUFWriter(path, "llama")
    writer.add_name(name)
    writer.add_context_length(16384)
    writer.add_embedding_length(64)
    writer.add_block_count(2)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores([0.0] * len(tokens))
    writer.add_eos_token_id(1)
    for role, number in (roles or {}).items():
        writer.add_uint32(f"tokenizer.ggml.{role}_token_id", number)
    writer.add_tensor("token_embd.weight", np.zeros((len(tokens), 64), np.float32))
    writer.add_tensor("output_norm.weight", np.ones(64, np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write(tmp_path_factory.mktemp("gguf") / "model.gguf").read_bytes()


def test_the_head_says_what_model_it_is(tmp_path: Path) -> None:
    head = gguf_file.read(write(tmp_path / "model.gguf"))

    assert (head.architecture, head.name, head.context_tokens, head.end_token) == ("llama", "a model", 16384, 1)
    assert list(head.tokens) == TOKENS
    assert head.weights_bytes == len(TOKENS) * 64 * 4 + 64 * 2
    assert head.kv_bytes(100) == 100 * 2 * 2 * (2 * 2 * 16)  # tokens, keys and values, bytes; layers, heads, width


def test_a_known_family_has_its_template_and_the_ids_of_its_tokens(tmp_path: Path) -> None:
    head = gguf_file.read(write(tmp_path / "model.gguf"))

    assert head.template is TEMPLATES["codellama"]
    assert head.controls(TEMPLATES["codellama"]) == ([3], [4], [5])


@pytest.mark.parametrize("names", [("prefix", "suffix", "middle"), ("fim_pre", "fim_suf", "fim_mid")])
def test_an_unknown_family_goes_by_the_roles_in_its_file(names: tuple[str, str, str], tmp_path: Path) -> None:
    tokens = ["<s>", "</s>", "<before>", "<after>", "<fill>"]
    head = gguf_file.read(write(tmp_path / "model.gguf", tokens=tokens, roles=dict(zip(names, (2, 3, 4), strict=True))))

    assert head.template == Template(prefix="<before>", suffix="<after>", middle="<fill>")
    assert head.controls(head.template) == ([2], [3], [4])


def test_a_model_that_does_not_infill_has_no_template(tmp_path: Path) -> None:
    head = gguf_file.read(write(tmp_path / "model.gguf", tokens=["<s>", "</s>", "a"]))

    assert head.template is None
    with pytest.raises(InputError, match="has no token '<fim_prefix>'"):
        head.controls(TEMPLATES["starcoder"])


def test_a_format_without_a_middle_token_needs_none(tmp_path: Path) -> None:
    head = gguf_file.read(write(tmp_path / "model.gguf", tokens=["<s>", "</s>", "[PREFIX]", "[SUFFIX]"]))

    assert head.template is TEMPLATES["codestral"]
    assert head.controls(head.template) == ([2], [3], [])


def test_a_file_cut_anywhere_is_refused(whole: bytes, tmp_path: Path) -> None:
    file = tmp_path / "model.gguf"

    for size in (*range(4, len(whole), 37), len(whole) - 1):
        file.write_bytes(whole[:size])
        with pytest.raises(InputError, match=r"is cut short or damaged: it announces .+"):
            gguf_file.read(file)


@settings(max_examples=300)
@given(st.data())
def test_damage_is_an_error_or_harmless_and_never_anything_else(
    whole: bytes, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    damaged = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, 700))
        value = data.draw(st.binary(min_size=1, max_size=8))
        damaged[place : place + len(value)] = value
    file = tmp_path_factory.getbasetemp() / "damaged.gguf"
    file.write_bytes(damaged)

    try:
        head = gguf_file.read(file)
    except InputError:
        return
    assert head.weights_bytes <= len(damaged)
    assert (head.template, head.name, head.end_token, head.kv_bytes(9), head.context_tokens) is not None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is no GGUF file"),
        (b"PK\x03\x04 a zip", "is no GGUF file"),
        (b"GGUF", "cut short or damaged"),
        (b"GGUF" + struct.pack("<I", 1) + bytes(100), "of version 1; known: 2 and 3"),
        (b"GGUF" + struct.pack("<IQQ", 3, 2**63, 0), "cut short or damaged"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 2**63), "cut short or damaged"),
        (b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 2**62), "cut short or damaged"),
    ],
)
def test_what_is_no_gguf_file_is_refused(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(content)

    with pytest.raises(InputError, match=message):
        gguf_file.read(tmp_path / "model.gguf")


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read: No such file"):
        gguf_file.read(tmp_path / "model.gguf")


def test_a_model_in_parts_is_read_from_its_first(tmp_path: Path) -> None:
    for number in (1, 2):
        writer = GGUFWriter(tmp_path / f"big-{number:05}-of-00002.gguf", "llama")
        writer.add_uint16("split.count", 2)
        writer.add_tensor(f"tensor.{number}", np.zeros(64, np.float32))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
    first, second = sorted(tmp_path.iterdir())

    assert gguf_file.read(first).weights_bytes == 2 * 64 * 4
    with pytest.raises(InputError, match="is part 2 of 2"):
        gguf_file.read(second)
    second.unlink()
    with pytest.raises(InputError, match=r"00002-of-00002\.gguf cannot be read"):
        gguf_file.read(first)
