"""`starsmith plan`, and the recipes that it is for."""

import importlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from starsmith.cli.options import STAGES, load_config
from starsmith.cli.plan import plan
from starsmith.cli.run import STEPS
from starsmith.core.config import load_recipe
from starsmith.core.errors import ConfigError, InputError, StarsmithError
from starsmith.model.config import PRESETS
from starsmith.training import scaling

RECIPES = Path(__file__).resolve().parents[2] / "recipes"
SIZES = ("3b", "7b", "15b")
GIVEN = [f"starcoder2-{size}{stage}.toml" for size in SIZES for stage in ("", "-long")]


def planned(*arguments: str) -> Result:
    result = CliRunner().invoke(plan, [str(argument) for argument in arguments], env={"COLUMNS": "140"})
    if isinstance(result.exception, StarsmithError):
        raise result.exception
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def recipe(name: str) -> str:
    return str(RECIPES / name)


def as_json(*arguments: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(planned(*arguments, "--json").stdout)
    return found


@pytest.mark.parametrize("name", sorted(path.name for path in RECIPES.glob("*.toml")))
def test_every_table_of_every_recipe_is_what_its_stage_takes(name: str) -> None:
    tables = load_recipe(RECIPES / name, known=STAGES)

    for table in tables:
        step = STEPS[table]
        config = getattr(importlib.import_module(step.module), step.config)
        assert isinstance(load_config(table, config, RECIPES / name, ()), config)


@pytest.mark.parametrize("size", SIZES)
def test_recipes_have_the_published_shapes(size: str) -> None:
    from starsmith.training.config import PretrainConfig

    published = PRESETS[f"starcoder2-{size}"]
    base, long = (
        load_config("pretrain", PretrainConfig, RECIPES / f"starcoder2-{size}{stage}.toml", ())
        for stage in ("", "-long")
    )
    first = base.model.model(vocab_size=49_152, context_tokens=base.data.context_tokens)
    last = long.model.continued(first, context_tokens=long.data.context_tokens)

    assert (first.max_position_embeddings, first.rope_theta) == (4096, 100_000.0)
    # The 7B keeps the 3B's spread of the first weights in its published configuration; here all have 1/sqrt(width).
    differing = {key for key, value in asdict(last).items() if value != asdict(published)[key]}
    assert differing <= {"initializer_range"}
    assert last.initializer_range == pytest.approx(published.initializer_range, rel=0.25)


@pytest.mark.parametrize("name", GIVEN)
def test_every_recipe_fits_eight_h100s_and_can_be_shared_by_256(name: str) -> None:
    for gpus in ("8", "256"):
        found = as_json(recipe(name), "--gpus", gpus, "--gpu", "h100")

        assert found["fits"], gpus
        assert found["rows_per_gpu"] == 256 // int(gpus)


@pytest.mark.parametrize(("size", "days"), [("3b", 7.2), ("7b", 18.7), ("15b", 46.8)])
def test_days_of_the_base_stages_on_256_h100s(size: str, days: float) -> None:
    """By hand: 6 N D of 3.1, 3.5 and 4.1 T tokens, attention on top of it, 40 % of 989 TFLOP/s."""
    model, tokens = PRESETS[f"starcoder2-{size}"], {"3b": 3.1e12, "7b": 3.5e12, "15b": 4.1e12}[size]
    attention = 6 * model.num_hidden_layers * model.hidden_size * 4096
    by_hand = tokens * (6 * model.matrix_parameters + attention) / (256 * 0.4 * 989e12) / 86_400

    found = as_json(recipe(f"starcoder2-{size}.toml"), "--gpus", "256", "--gpu", "h100")

    assert found["days"] == pytest.approx(by_hand, rel=1e-3)
    assert found["days"] == pytest.approx(days, abs=0.1)
    assert found["tokens"] == pytest.approx(tokens, rel=1e-5)


def test_the_page_says_what_was_asked_and_what_was_assumed() -> None:
    text = planned(recipe("starcoder2-3b.toml"), "--gpus", "256", "--gpu", "h100", "--price", "2.5").stdout

    for part in ("3,030,371,328", "1,182,557", "assumed, not measured", "fits", "111,239", "data sheet"):
        assert part in text
    assert "assumed" not in planned(recipe("starcoder2-3b.toml"), "--mfu", "0.35").stdout


def test_without_a_price_there_is_no_cost() -> None:
    assert as_json(recipe("starcoder2-3b.toml"))["cost"] is None
    assert "cost" not in planned(recipe("starcoder2-3b.toml")).stdout


def test_a_setting_can_be_tried_without_changing_the_recipe() -> None:
    name = recipe("starcoder2-7b.toml")

    too_much = planned(name, "--gpus", "8", "--set", "pretrain.activation_checkpointing=false").stdout

    assert "DOES NOT FIT" in too_much
    assert "  --set pretrain.activation_checkpointing=true" in too_much.splitlines()
    assert "It fits without checkpointing too" in planned(name, "--gpus", "256").stdout


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (("starcoder2-7b.toml", "--gpus", "200"), "200 GPUs that read data cannot share", "--gpus 128"),
        (("starcoder2-7b.toml", "--gpus", "0"), "0 GPUs", "--gpus 8"),
        (("starcoder2-7b.toml", "--mfu", "40"), "an MFU of 40", "--mfu 0.4"),
        (("starcoder2-7b.toml", "--gpu", "h1000"), "'h1000' is not in the table", "did you mean 'h100'?"),
        (("starcoder2-7b.toml", "--set", "pretrain.model.layerz=3"), "no setting 'layerz'", "did you mean 'layers'?"),
    ],
)
def test_what_cannot_be_is_refused(arguments: tuple[str, ...], message: str, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        planned(recipe(arguments[0]), *arguments[1:])

    assert message in caught.value.message
    assert hint in caught.value.hint


@pytest.mark.parametrize("arguments", [(), ("--flops", "1e21", "--days", "3")])
def test_one_question_at_a_time(arguments: tuple[str, ...]) -> None:
    result = planned(*arguments)

    assert result.exit_code == click.UsageError.exit_code
    assert "one of RECIPE, --flops and --days" in result.output


def test_days_on_gpus_are_a_budget_of_operations() -> None:
    found = as_json("--days", "7", "--gpus", "8", "--gpu", "h100", "--mfu", "0.4")

    assert found["flops"] == pytest.approx(7 * 86_400 * 8 * 989e12 * 0.4)


@pytest.mark.parametrize("flops", ["0", "-1", "nan", "1e40"])
def test_a_budget_that_is_none_is_refused(flops: str) -> None:
    with pytest.raises(InputError, match="is none"):
        planned("--flops", flops)


def test_without_a_study_nothing_is_made_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scaling, "FILE", "data/no_such_study.json")

    text = planned("--flops", "1e21").stdout

    assert "No scaling study has been recorded" in text
    assert "2.887 B" in text  # by the published rule of thumb, named as such
    assert as_json("--flops", "1e21")["advice"] is None


@pytest.mark.parametrize(
    ("flops", "says"),
    [("1e13", "within the study's largest run"), ("1e15", "EXTRAPOLATED 1"), ("1e21", "too far: 1e+08 times beyond")],
)
def test_the_study_that_came_with_the_package_advises_as_far_as_it_can(flops: str, says: str) -> None:
    study = scaling.own_study()
    assert study is not None

    text = " ".join(planned("--flops", flops).stdout.replace("│", " ").split())

    assert says in text
    assert as_json("--flops", flops)["advice"]["parameters"] == pytest.approx(study.law.optimum(float(flops))[0])
