# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from typing import Any

import pytest
from brokerless.cmd.call_arguments import ArgumentError, parse_arguments
from hypothesis import given, settings
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("web1", "web1"),
        ("3", 3),
        ("-1.5", -1.5),
        ('"3"', "3"),
        ("true", True),
        ("True", "True"),
        ("null", None),
        ("", ""),
        ("a=b", "a=b"),
        ('["a", {"b": 1}]', ["a", {"b": 1}]),
        ("[broken", "[broken"),
        ("NaN", "NaN"),
        ("[Infinity]", "[Infinity]"),
        ("[" * 10_000, "[" * 10_000),
        ("9" * 5000, "9" * 5000),
    ],
)
def test_a_value_is_json_if_it_can_be_read_as_json_and_text_otherwise(text: str, value: Any) -> None:
    assert parse_arguments([f"name={text}", "other=1"]) == {"name": value, "other": 1}


@settings(deadline=None)
@given(st.text())
def test_any_text_can_be_given_as_a_json_string(text: str) -> None:
    assert parse_arguments([f"name={json.dumps(text)}"]) == {"name": text}


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["web1"], "argument 'web1' must be written name=value"),
        (["=web1"], "argument '=web1' must be written name=value"),
        ([""], "argument '' must be written name=value"),
        (["a=1", "a=2"], "argument 'a' is given twice"),
    ],
)
def test_what_is_not_an_argument_is_named(texts: list[str], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        parse_arguments(texts)
