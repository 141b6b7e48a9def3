"""Attributes and the resource: what every export says of who speaks."""

from typing import Any

import pytest

from proxy import __version__
from proxy.telemetry.otlp import attribute, known, resource_of
from proxy.words import Failure
from tests.support.collector import plain


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ("text", "string_value"), (Failure.RESET, "string_value"), (7, "int_value"), (0.5, "double_value"),
        (True, "bool_value"),
    ],
)  # fmt: skip
def test_value_keeps_its_type(value: Any, kind: str) -> None:
    found = attribute("key", value).value
    assert found.WhichOneof("value") == kind
    assert getattr(found, kind) == value


def test_values_that_are_equal_and_of_other_types_are_not_mixed_up() -> None:
    assert [known("key", value).value.WhichOneof("value") for value in (1, True, 1.0)] == [
        "int_value", "bool_value", "double_value",
    ]  # fmt: skip


def test_resource_names_service_version_and_instance() -> None:
    first, second = (plain(resource_of({}).attributes) for _ in range(2))
    assert (first["service.name"], first["service.version"]) == ("splitlane", __version__)
    assert first["service.instance.id"] != second["service.instance.id"]


def test_environment_adds_to_the_resource_and_wins() -> None:
    environ = {
        "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=prod, service.instance.id=pod%2D1,broken,=x",
        "OTEL_SERVICE_NAME": "lane",
    }
    found = plain(resource_of(environ).attributes)
    assert found == {
        "service.name": "lane",
        "service.version": __version__,
        "service.instance.id": "pod-1",
        "deployment.environment.name": "prod",
    }
