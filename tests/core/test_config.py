"""Settings: default < recipe < --set, and nothing unknown or of the wrong type passes."""

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from starsmith.core.config import apply_overrides, build, load_recipe, to_table
from starsmith.core.errors import ConfigError, InputError

KNOWN = ("pretrain", "index")


@dataclass(frozen=True, kw_only=True)
class Settings:
    steps: int = 1
    rate: float = 0.5
    name: str = "x"
    shuffle: bool = False
    limit: int | None = None
    words: tuple[str, ...] = ("a",)
    weights: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.steps < 0:
            raise ConfigError(f"steps={self.steps}: must not be negative", hint="give 0 or more")


def recipe(directory: Path, content: str | bytes) -> Path:
    file = directory / "recipe.toml"
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return file


def test_the_order_is_default_then_recipe_then_override(tmp_path: Path) -> None:
    tables = load_recipe(recipe(tmp_path, "[pretrain]\nsteps = 2\nrate = 0.25\n"), known=KNOWN)

    merged = apply_overrides(tables, ["pretrain.steps=3"], known=KNOWN)

    assert build(Settings, merged["pretrain"], where="here") == Settings(steps=3, rate=0.25, name="x")


def test_a_recipe_table_may_be_empty_or_missing(tmp_path: Path) -> None:
    assert load_recipe(recipe(tmp_path, "[index]\n"), known=KNOWN) == {"index": {}}
    assert build(Settings, {}, where="here") == Settings()


@pytest.mark.parametrize(
    ("key", "hint"),
    [("step", "did you mean 'steps'?"), ("Rate", "did you mean 'rate'?"), ("zzz", "known: limit, name")],
)
def test_an_unknown_key_is_refused_and_the_nearest_named(key: str, hint: str) -> None:
    with pytest.raises(ConfigError) as refused:
        build(Settings, {key: 1}, where="recipe.toml [pretrain]")

    assert refused.value.message == f"recipe.toml [pretrain] has no setting {key!r}"
    assert refused.value.hint.startswith(hint)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"steps": "3"}, "steps = '3' is of type str, not int"),
        ({"steps": 3.0}, "steps = 3.0 is of type float, not int"),
        ({"steps": True}, "steps = True is of type bool, not int"),
        ({"rate": "fast"}, "rate = 'fast' is of type str, not float"),
        ({"rate": True}, "rate = True is of type bool, not float"),
        ({"name": 1}, "name = 1 is of type int, not str"),
        ({"shuffle": 1}, "shuffle = 1 is of type int, not bool"),
        ({"limit": "many"}, "limit = 'many' is of type str, not int"),
        ({"words": "abc"}, "words = 'abc' is not a list"),
        ({"words": ["a", 1]}, "words = 1 is of type int, not str"),
        ({"weights": [1.0, True]}, "weights = True is of type bool, not float"),
    ],
)
def test_a_value_of_the_wrong_type_is_refused(table: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        build(Settings, table, where="here")

    assert refused.value.message == f"here {message}"


def test_values_of_the_right_type_are_taken() -> None:
    table = {"rate": 1, "limit": 5, "words": ["b", "c"], "weights": [1, 2.5], "shuffle": True}

    settings = build(Settings, table, where="here")

    assert settings == Settings(rate=1.0, limit=5, words=("b", "c"), weights=(1.0, 2.5), shuffle=True)
    assert isinstance(settings.rate, float)
    assert all(isinstance(weight, float) for weight in settings.weights)


def test_a_value_that_the_settings_refuse_names_the_place() -> None:
    with pytest.raises(ConfigError) as refused:
        build(Settings, {"steps": -1}, where="recipe.toml [pretrain]")

    assert refused.value.message == "recipe.toml [pretrain]: steps=-1: must not be negative"
    assert refused.value.hint == "give 0 or more"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("0.5", 0.5),
        ("true", True),
        ("2**20", "2**20"),
        ('"quoted"', "quoted"),
        ("plain words", "plain words"),
        ("a=b", "a=b"),
        ("", ""),
        ('["a", "b"]', ["a", "b"]),
        (" 5 ", 5),
    ],
)
def test_an_override_is_read_as_toml_or_else_as_a_string(text: str, value: object) -> None:
    assert apply_overrides({}, [f"index.key={text}"], known=KNOWN) == {"index": {"key": value}}


def test_the_last_override_wins_and_the_tables_given_stay_as_they_were() -> None:
    tables = {"index": {"key": 1}}

    merged = apply_overrides(tables, ["index.key=2", "index.key=3"], known=KNOWN)

    assert merged == {"index": {"key": 3}}
    assert tables == {"index": {"key": 1}}


@pytest.mark.parametrize("text", ["index", "index.key", "index=3", "index.=3", "", "=", "."])
def test_an_override_without_its_form_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"has no table\.key=value form"):
        apply_overrides({}, [text], known=KNOWN)


def test_an_override_of_an_unknown_table_is_refused() -> None:
    with pytest.raises(ConfigError, match="there is no table 'idnex'") as refused:
        apply_overrides({}, ["idnex.key=3"], known=KNOWN)

    assert refused.value.hint == "did you mean 'index'?"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[idnex]\n", r"has no table \[idnex\] to use"),
        ("steps = 3\n", r"has no table \[steps\] to use"),
        ("index = 3\n", "'index' stands outside a table"),
        ("[[index]]\nkey = 3\n", "'index' stands outside a table"),
        ("[index\n", "is not valid TOML"),
        ("[index]\nkey = 1\nkey = 2\n", "is not valid TOML"),
        (b"[index]\nkey = '\xff'\n", "is not valid TOML"),
    ],
)
def test_a_recipe_that_is_wrong_is_refused_by_name(content: str | bytes, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=rf"recipe\.toml.*{message}") as refused:
        load_recipe(recipe(tmp_path, content), known=KNOWN)

    assert refused.value.hint


def test_a_recipe_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.toml does not exist"):
        load_recipe(tmp_path / "none.toml", known=KNOWN)


def test_settings_become_plain_values_and_come_back() -> None:
    settings = Settings(words=("b",), limit=None)

    table = to_table(settings)

    assert table["words"] == ["b"]
    assert build(Settings, {key: value for key, value in table.items() if value is not None}, where="") == settings


@dataclass(frozen=True, kw_only=True)
class Outer:
    inner: Settings = Settings()
    shares: dict[str, float] = field(default_factory=dict)


def test_a_sub_table_is_a_dataclass_of_its_own_and_can_be_overridden_key_by_key(tmp_path: Path) -> None:
    tables = load_recipe(recipe(tmp_path, "[pretrain]\nshares = { C = 2 }\n[pretrain.inner]\nsteps = 2\n"), known=KNOWN)

    merged = apply_overrides(tables, ["pretrain.inner.rate=0.25", "pretrain.shares.D=0.5"], known=KNOWN)
    outer = build(Outer, merged["pretrain"], where="here")

    assert outer == Outer(inner=Settings(steps=2, rate=0.25), shares={"C": 2.0, "D": 0.5})
    assert to_table(outer)["inner"]["words"] == ["a"]
    assert tables["pretrain"]["inner"] == {"steps": 2}


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["pretrain.inner.step=1"], "here inner has no setting 'step'"),
        (["pretrain.inner=1"], "here inner = 1 is not a table"),
        (["pretrain.inner.steps=-1"], "here inner: steps=-1"),
        (["pretrain.shares=1"], "here shares = 1 is not a table"),
    ],
)
def test_an_error_in_a_sub_table_names_it(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        build(Outer, apply_overrides({}, overrides, known=KNOWN)["pretrain"], where="here")

    assert error.value.message.startswith(message)


def test_a_setting_is_no_table() -> None:
    with pytest.raises(ConfigError, match="is a setting, not a table"):
        apply_overrides({"pretrain": {"steps": 1}}, ["pretrain.steps.more=1"], known=KNOWN)


def test_a_date_of_toml_is_a_text_as_people_write_it(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text("[corpus]\nopt_outs_as_of = 2026-01-31\n")

    @dataclass(frozen=True, kw_only=True)
    class DatedConfig:
        opt_outs_as_of: str = ""

    built = build(DatedConfig, load_recipe(recipe, known=("corpus",))["corpus"], where="[corpus]")

    assert built.opt_outs_as_of == "2026-01-31"
