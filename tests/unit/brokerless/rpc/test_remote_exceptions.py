# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import sys
from pathlib import Path

import pytest
from brokerless.rpc import errors
from brokerless.rpc.errors import RemoteError, Timeout, UnsupportedRpcVersion
from brokerless.rpc.remote_exceptions import MAX_ARGUMENTS, Failure, exception_of, failure_of

ALLOWED = ["builtins", "brokerless.rpc.errors", __name__]


class InstanceNotFound(Exception):
    """As Nova's: made with keywords, which it keeps."""

    def __init__(self, message: str | None = None, **kwargs: object) -> None:
        self.kwargs = kwargs
        super().__init__(message or f"Instance {kwargs.get('instance_id')} could not be found.")


class Stubborn(Exception):
    """Can't be made from its arguments."""

    def __init__(self, *, needed: object) -> None:
        super().__init__("stubborn", needed)


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError


class NotAnException:
    pass


class Quit(BaseException):
    pass


def failure_from(error: BaseException) -> Failure:
    try:
        raise error
    except BaseException as caught:  # noqa: BLE001 (any will do)
        return failure_of(caught)


def test_an_allowed_exception_comes_back_by_its_class() -> None:
    error = exception_of(failure_from(ValueError("no", 42)), ALLOWED)
    assert isinstance(error, ValueError)
    assert type(error).__name__ == "ValueError_Remote"
    assert type(error).__bases__ == (ValueError,)
    assert error.args == ("no", 42)
    assert str(error).startswith("('no', 42)\nTraceback (most recent call last):")
    assert "raise error" in str(error)
    assert vars(error)["remote_message"] == "('no', 42)"


def test_an_exception_of_a_service_comes_back_with_its_keywords() -> None:
    error = exception_of(failure_from(InstanceNotFound(instance_id="i-1")), ALLOWED)
    assert isinstance(error, InstanceNotFound)
    assert type(error).__name__ == "InstanceNotFound_Remote"
    assert error.kwargs == {"instance_id": "i-1"}
    assert vars(error)["remote_message"] == "Instance i-1 could not be found."


def test_one_class_is_derived_for_all() -> None:
    first, second = (exception_of(failure_from(KeyError(key)), ALLOWED) for key in "ab")
    assert first.__class__ is type(second)


def test_a_module_that_is_not_allowed_makes_a_remote_error() -> None:
    error = exception_of(failure_from(InstanceNotFound("42")), ["builtins"])
    assert error.__class__ is RemoteError
    assert (error.exc_type, error.value) == ("InstanceNotFound", "42")
    assert "raise error" in (error.traceback or "")


def test_a_module_that_is_not_allowed_is_not_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "intruder_module.py").write_text("class Boom(Exception): pass")
    monkeypatch.syspath_prepend(str(tmp_path))
    failure = Failure("Boom", "intruder_module", "x")
    assert exception_of(failure, ALLOWED).__class__ is RemoteError
    assert "intruder_module" not in sys.modules
    assert type(exception_of(failure, ["intruder_module"])).__name__ == "Boom_Remote"


def test_an_allowed_module_that_breaks_makes_a_remote_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_module.py").write_text("1 / 0")
    monkeypatch.syspath_prepend(str(tmp_path))
    for module in ("broken_module", "missing_module", "no dots..here", ""):
        assert exception_of(Failure("Boom", module, "x"), [module]).__class__ is RemoteError


@pytest.mark.parametrize(
    "name", ["SystemExit", "KeyboardInterrupt", "BaseException", "eval", "int", "__import__", "nothing", "ValueError.__init__", ""]
)
def test_what_is_no_exception_is_never_built(name: str) -> None:
    error = exception_of(Failure(name, "builtins", "x", ["1"]), ALLOWED)
    assert error.__class__ is RemoteError
    assert error.exc_type == name


@pytest.mark.parametrize("name", ["NotAnException", "Quit"])
def test_a_class_of_an_allowed_module_must_be_an_exception(name: str) -> None:
    assert exception_of(Failure(name, __name__, "x"), ALLOWED).__class__ is RemoteError


def test_a_class_that_cannot_be_made_from_its_arguments_makes_a_remote_error() -> None:
    error = exception_of(failure_from(Stubborn(needed=object())), ALLOWED)
    assert error.__class__ is RemoteError
    assert error.exc_type == "Stubborn"
    assert exception_of(Failure("UnicodeDecodeError", "builtins", "x", ["utf-8"]), ALLOWED).__class__ is RemoteError


def test_an_exception_whose_text_fails_is_told_nevertheless() -> None:
    error = exception_of(failure_from(Mute("x")), ALLOWED)
    assert isinstance(error, Mute)
    assert vars(error)["remote_message"] == "<Mute whose text can't be made>"


def test_an_exception_that_travels_twice_keeps_its_class_and_text() -> None:
    once = exception_of(failure_from(KeyError("disk")), ALLOWED)
    twice = exception_of(failure_from(once), ALLOWED)
    assert twice.__class__ is type(once)
    assert vars(twice)["remote_message"] == "'disk'"
    assert str(twice).count("KeyError_Remote") == 1


def test_a_remote_error_that_travels_again_stays_what_it_was() -> None:
    once = exception_of(failure_from(InstanceNotFound("42")), [])
    twice = exception_of(failure_from(once), ALLOWED)
    assert twice.__class__ is RemoteError
    assert (twice.exc_type, twice.value) == ("InstanceNotFound", "42")
    assert int(twice.value or "") == 42


def test_a_remote_error_cannot_be_forged_into_another_shape() -> None:
    error = exception_of(Failure("RemoteError", "brokerless.rpc.errors", "x", [1, 2, 3]), ALLOWED)
    assert error.__class__ is RemoteError
    assert error.exc_type == "RemoteError"


@pytest.mark.parametrize(
    "original", [Timeout("silent", "compute", "echo", 5.0), UnsupportedRpcVersion("9.0"), errors.NoSuchMethod("No such RPC function 'x'")]
)
def test_our_own_errors_travel_by_class(original: Exception) -> None:
    failure = failure_from(original)
    assert failure.module == "brokerless.rpc.errors"
    error = exception_of(failure, ALLOWED)
    assert isinstance(error, type(original))
    assert error.args == original.args
    assert vars(error)["remote_message"] == str(original)


def test_our_own_errors_travel_from_a_runtime_that_was_imported_under_another_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(errors, "__name__", "vendored.rpc.errors")
    monkeypatch.setattr(Timeout, "__module__", "vendored.rpc.errors")
    assert failure_from(Timeout("silent")).module == "brokerless.rpc.errors"
    assert isinstance(exception_of(failure_from(Timeout("silent")), ALLOWED), Timeout)


def test_what_is_told_is_bounded() -> None:
    error = InstanceNotFound("m" * 1_000_000, **{f"k{number}": "v" * 100_000 for number in range(100)})
    error.args = ("a" * 1_000_000, object(), [0] * 100_000, *range(1000))
    failure = failure_from(error)
    assert len(failure.message) < 10_000
    assert len(failure.arguments) == MAX_ARGUMENTS
    assert len(failure.keywords) == MAX_ARGUMENTS
    assert all(len(str(argument)) < 5_000 for argument in [*failure.arguments, *failure.keywords.values()])
    assert failure.arguments[1].startswith("<object object")


def test_a_deep_recursion_is_told_in_bounded_size() -> None:
    def recurse() -> None:
        recurse()

    with pytest.raises(RecursionError) as caught:
        recurse()
    failure = failure_of(caught.value)
    assert failure.class_name == "RecursionError"
    assert len(failure.traceback) < 40_000


def test_a_system_exit_is_told_but_never_raised_as_such() -> None:
    error = exception_of(failure_from(SystemExit(3)), ALLOWED)
    assert error.__class__ is RemoteError
    assert (error.exc_type, error.value) == ("SystemExit", "3")
