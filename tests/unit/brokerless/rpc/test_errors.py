# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pickle

import pytest
from brokerless.rpc import errors


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (errors.Timeout("no host", "compute", "echo", 5), "no answer to method 'echo' on topic 'compute' within 5 s: no host"),
        (errors.Timeout(), "no answer"),
        (errors.NotSent("backlog full", "compute", "echo"), "not sent: method 'echo' for topic 'compute': backlog full"),
        (errors.NotSent("backlog full", "compute"), "not sent: message for topic 'compute': backlog full"),
        (errors.RemoteError("ValueError", "42", "Traceback"), "Remote error: ValueError 42\nTraceback"),
        (errors.RemoteError("ValueError", "42"), "Remote error: ValueError 42"),
        (errors.UnsupportedRpcVersion("2.0"), "RPC version 2.0 is not supported by this endpoint"),
        (errors.UnsupportedRpcVersion("2.0", "cells"), "RPC version 2.0 of namespace 'cells' is not supported by this endpoint"),
    ],
)
def test_the_text_is_one_for_operators_and_survives_travelling(error: errors.RPCException, text: str) -> None:
    assert str(error) == text
    copy = pickle.loads(pickle.dumps(error))
    assert copy.__class__ is type(error)
    assert str(copy) == text
    assert vars(copy) == vars(error)


def test_client_exceptions_wraps_the_expected_ones_only() -> None:
    @errors.client_exceptions(KeyError, ValueError)
    def find(error: Exception | None) -> int:
        """Find it."""
        if error is not None:
            raise error
        return 3

    assert find(None) == 3
    assert find.__doc__ == "Find it."
    expected = ValueError("no")
    with pytest.raises(errors.ClientException) as caught:
        find(expected)
    assert caught.value.__cause__ is expected
    with pytest.raises(TypeError):
        find(TypeError())


def test_an_error_can_be_caught_by_what_python_calls_it() -> None:
    assert issubclass(errors.Unserialisable, TypeError)
    assert issubclass(errors.NoSuchMethod, AttributeError)
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    assert [kind.__name__ for kind in kinds if not issubclass(kind, errors.RPCException)] == ["ClientException"]
