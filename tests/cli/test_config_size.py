"""A setting is a cost: each stage has few, and each says what it does."""

import dataclasses
import importlib
import inspect
import pkgutil
from collections.abc import Iterator

import pytest

import starsmith

pytestmark = pytest.mark.slow

MOST_SETTINGS = 20  # of one class; more means that it is two
# All of them. Whoever adds one raises this number, and thinks twice.
ALL_SETTINGS = 181


def settings_classes() -> Iterator[type]:
    """Every dataclass of settings in the package."""
    for module in pkgutil.walk_packages(starsmith.__path__, "starsmith."):
        if module.name.startswith(("starsmith.cli", "starsmith.serving")):
            continue
        for _, found in inspect.getmembers(importlib.import_module(module.name), inspect.isclass):
            is_ours = found.__module__ == module.name and dataclasses.is_dataclass(found)
            if is_ours and found.__name__.endswith(("Config", "Policy")):
                yield found


@pytest.fixture(scope="module")
def classes() -> list[type]:
    return sorted(settings_classes(), key=lambda cls: cls.__qualname__)


def fields_of(cls: type) -> list[str]:
    return [field.name for field in dataclasses.fields(cls)]


def test_a_class_has_few_settings(classes: list[type]) -> None:
    for cls in classes:
        assert len(fields_of(cls)) <= MOST_SETTINGS, f"{cls.__name__} has {len(fields_of(cls))}: {fields_of(cls)}"


def test_all_settings_together_are_few(classes: list[type]) -> None:
    assert sum(len(fields_of(cls)) for cls in classes) <= ALL_SETTINGS


def test_settings_are_frozen_and_given_by_name(classes: list[type]) -> None:
    for cls in classes:
        assert cls.__dataclass_params__.frozen  # type: ignore[attr-defined]
        assert all(field.kw_only for field in dataclasses.fields(cls)), cls
