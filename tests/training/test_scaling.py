"""A law that made the runs is found again, and its advice is the best that it allows."""

import itertools
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from starsmith.core.errors import InputError
from starsmith.model.config import PRESETS
from starsmith.training import scaling
from starsmith.training.scaling import Law, Run, Study, fit, parse, shape_for

pytestmark = pytest.mark.slow

TRUE = Law(0.8, 30.0, 60.0, 0.28, 0.33)
SIZES = (4e5, 7e5, 1.2e6, 2.3e6, 3.8e6)
BUDGETS = (1e12, 3e12, 1e13)


def runs_of(law: Law, *, noise: float = 0.0, seed: int = 0) -> list[Run]:
    random = np.random.default_rng(seed)
    return [
        Run(
            parameters=int(size),
            tokens=int(budget / 6 / size),
            loss=law.loss(size, budget / 6 / size) * float(np.exp(noise * random.standard_normal())),
            budget=budget,
            epochs=1.0,
        )
        for size, budget in itertools.product(SIZES, BUDGETS)
    ]


def study_of(runs: list[Run]) -> Study:
    law, resampled = fit(runs)
    return Study(
        date="2026-01-01",
        command="none",
        machine="none",
        unit="bits per byte",
        runs=tuple(runs),
        law=law,
        resampled=resampled,
    )


@pytest.fixture(scope="module")
def study() -> Study:
    return study_of(runs_of(TRUE, noise=0.003))


def test_the_law_of_exact_runs_is_found_again() -> None:
    found, _ = fit(runs_of(TRUE))

    assert found.size_exponent == pytest.approx(TRUE.size_exponent, rel=0.01)
    assert found.data_exponent == pytest.approx(TRUE.data_exponent, rel=0.01)
    assert found.irreducible == pytest.approx(TRUE.irreducible, rel=0.02)


@pytest.mark.parametrize(
    "law", [Law(1.7, 406.4, 410.7, 0.34, 0.28), Law(0.3, 12.0, 300.0, 0.2, 0.45), Law(1.0, 1e4, 50.0, 0.7, 0.3)]
)
def test_other_laws_are_found_again_too(law: Law) -> None:
    found, _ = fit(runs_of(law))

    for run in runs_of(law):
        assert found.loss(run.parameters, run.tokens) == pytest.approx(run.loss, rel=2e-4)
    assert found.optimum(1e13)[0] == pytest.approx(law.optimum(1e13)[0], rel=0.03)


def test_a_run_gone_wrong_hardly_moves_the_law() -> None:
    runs = runs_of(TRUE)
    runs[7] = replace(runs[7], loss=1.5 * runs[7].loss)

    found, _ = fit(runs)

    assert found.optimum(1e13)[0] == pytest.approx(TRUE.optimum(1e13)[0], rel=0.05)


def test_intervals_hold_the_truth_and_widen_beyond_the_study(study: Study) -> None:
    inside, outside = study.advise(5e12), study.advise(1e20)

    for advice in (inside, outside):
        low, high = advice.parameters_interval
        assert low < TRUE.optimum(advice.flops)[0] < high
    widths = [advice.parameters_interval[1] / advice.parameters_interval[0] for advice in (inside, outside)]
    assert widths[0] < widths[1]
    assert inside.beyond <= 1 < outside.beyond


@given(
    st.builds(
        Law,
        st.floats(0.1, 3),
        st.floats(1, 1000),
        st.floats(1, 1000),
        st.floats(0.1, 0.9),
        st.floats(0.1, 0.9),
    ),
    st.floats(1e10, 1e25),
)
def test_the_advice_spends_the_budget_and_its_neighbours_are_worse(law: Law, flops: float) -> None:
    parameters, tokens = law.optimum(flops)

    assert 6 * parameters * tokens == pytest.approx(flops)
    for factor in (0.8, 1.25):
        assert law.loss(parameters * factor, tokens / factor) >= law.loss(parameters, tokens)


def test_the_same_runs_give_the_same_study(study: Study) -> None:
    assert study_of(list(study.runs)) == study


def test_a_study_is_written_and_read_back(study: Study, tmp_path: Path) -> None:
    study.save(tmp_path / "deep" / "scaling.json")

    found = parse((tmp_path / "deep" / "scaling.json").read_text(), "here")

    assert (found.law, found.runs, found.date) == (study.law, study.runs, study.date)
    assert found.advise(1e15).parameters_interval == pytest.approx(study.advise(1e15).parameters_interval, rel=1e-3)
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["scaling.json"]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"runs": 3}', "null"])
def test_a_file_that_is_no_study_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="here is no scaling study"):
        parse(text, "here")


def test_a_damaged_study_is_refused(study: Study, tmp_path: Path) -> None:
    study.save(tmp_path / "scaling.json")
    values = json.loads((tmp_path / "scaling.json").read_text())
    del values["law"]["irreducible"]

    with pytest.raises(InputError, match="is no scaling study"):
        parse(json.dumps(values), "here")


def test_too_few_runs_determine_no_law() -> None:
    two_sizes = [run for run in runs_of(TRUE) if run.parameters in (400_000, 700_000)]

    with pytest.raises(InputError, match="6 runs of 2 sizes and 3 budgets"):
        fit(two_sizes)


def test_a_budget_that_is_none_is_refused(study: Study) -> None:
    with pytest.raises(InputError, match="is none"):
        study.advise(0.0)


def test_the_study_of_the_package_is_whole() -> None:
    found = scaling.own_study()

    assert found is not None
    assert len({run.parameters for run in found.runs}) >= 5
    assert len({run.budget for run in found.runs}) >= 3
    assert fit(found.runs)[0] == found.law


@pytest.mark.parametrize("name", PRESETS)
def test_shapes_are_like_the_published_ones(name: str) -> None:
    published = PRESETS[name]

    found = shape_for(published.matrix_parameters)

    assert found.matrix_parameters == pytest.approx(published.matrix_parameters, rel=0.02)
    assert found.head_dim == 128
    assert 0.6 < found.hidden_size / published.hidden_size < 1.3


@pytest.mark.parametrize("parameters", np.geomspace(2e6, 1e11, 25))
def test_every_size_has_a_shape_of_about_that_size(parameters: float) -> None:
    found = shape_for(parameters, vocab_size=4096)

    assert found.matrix_parameters == pytest.approx(parameters, rel=0.15)
