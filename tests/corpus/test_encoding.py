import codecs

import pytest
from hypothesis import given
from hypothesis import strategies as st

from starsmith.corpus.encoding import decode
from starsmith.corpus.files import Drop


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\ufeff"), min_size=1))
def test_utf8_comes_back_as_it_was_with_its_line_ends(text: str) -> None:
    assert decode(text.encode()) == text


@given(st.binary(max_size=300))
def test_whatever_comes_in_the_text_has_no_nul_and_no_surrogate(content: bytes) -> None:
    text = decode(content)

    if isinstance(text, str):
        assert "\0" not in text
        text.encode()


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_a_byte_order_mark_is_obeyed_and_removed(encoding: str) -> None:
    assert decode("é = 1\r\n".encode(encoding)) == "é = 1\r\n"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (codecs.BOM_UTF8, "empty"),
        (codecs.BOM_UTF16_LE, "empty"),
        (b"a\0b", "binary"),
        ("a\0b".encode("utf-16"), "binary"),
        (codecs.BOM_UTF16_LE + b"\x00\xd8", "unknown_encoding"),
        (bytes(range(128, 256)), "unknown_encoding"),
        ("é ü ñ ö".encode() + b"\xff", "unknown_encoding"),
    ],
)
def test_what_is_no_text_is_dropped_with_a_reason(content: bytes, reason: str) -> None:
    drop = decode(content)

    assert isinstance(drop, Drop)
    assert drop.reason == reason
    assert drop.detail


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("/* Copyright 2004 Jörg Müller */\nint x;\n", "cp1252"),
        ("# Définit la fonction appelée après\n", "cp1252"),
        ("// Эта функция возвращает значение\n", "cp1251"),
        ("// Эта функция возвращает значение\n", "koi8_r"),
        ("// この関数は値を返します。\n", "cp932"),
        ("// この関数は値を返します。\n", "euc_jp"),
        ("// 이 함수는 값을 반환합니다\n", "cp949"),
        ("// 这个函数返回一个值，如果没有找到则返回空\n", "gb18030"),
        ("// 這個函數返回一個值，如果沒有找到則返回空\n", "big5"),
        ("# -*- coding: cp1250 -*-\n# zażółć gęślą jaźń\n", "cp1250"),
    ],
)
def test_older_encodings_are_recognised_or_declared(text: str, encoding: str) -> None:
    assert decode(text.encode(encoding)) == text
