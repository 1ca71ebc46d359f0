"""Errors carry what main prints: a message, and a hint when there is one."""

import pytest

from starsmith.core import errors


@pytest.mark.parametrize("name", ["ConfigError", "InputError", "ArtifactError", "CheckpointError"])
def test_every_error_is_a_starsmith_error_with_message_and_hint(name: str) -> None:
    error = getattr(errors, name)("runs/x has no y", hint="make it")

    assert isinstance(error, errors.StarsmithError)
    assert (error.message, error.hint, str(error)) == ("runs/x has no y", "make it", "runs/x has no y")


def test_the_hint_may_be_left_out() -> None:
    assert errors.StarsmithError("full").hint == ""


def test_a_bad_checkpoint_is_a_bad_artefact() -> None:
    assert issubclass(errors.CheckpointError, errors.ArtifactError)


def test_the_tree_in_the_docstring_names_every_error() -> None:
    classes = [name for name, value in vars(errors).items() if isinstance(value, type)]

    assert all(name in (errors.__doc__ or "") for name in classes)
