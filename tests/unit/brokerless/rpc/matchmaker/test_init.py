# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import importlib
import itertools
from collections.abc import Callable
from pathlib import Path

import pytest
from brokerless.rpc.matchmaker import known_names, load_matchmaker
from brokerless.rpc.matchmaker.base import MatchMaker, MatchMakerError, Route, Settings
from brokerless.rpc.matchmaker.localhost import MatchMakerLocalhost
from brokerless.rpc.matchmaker.redis import MatchMakerRedis
from brokerless.rpc.matchmaker.ring import MatchMakerFanoutRing, MatchMakerRing
from brokerless.rpc.matchmaker.stub import MatchMakerStub
from brokerless.rpc.topics import Address

OWN = """
from brokerless.rpc.matchmaker.base import MatchMaker, Route

class Own(MatchMaker):
    name = "own"
    def route_bare(self, address):
        return Route(("one-of-mine",))
    def route_fanout(self, address):
        return Route(("one-of-mine", "another"))

class Incomplete(MatchMaker):
    name = "incomplete"
    def route_bare(self, address):
        return Route()

class Nameless(Own):
    name = None

class Stubborn(Own):
    def __init__(self, settings):
        raise KeyError("no map")

class Careful(Own):
    def __init__(self, settings):
        raise ValueError("file map.json: missing")

class NoMatchMaker:
    pass

not_a_class = 7
"""

numbers = itertools.count()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    ring_file = tmp_path / "ring.json"
    ring_file.write_text('{"compute": ["compute1", "compute2"]}')
    return Settings("control1", str(ring_file))


@pytest.fixture
def own_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """A function that writes a module of the user's own at a dotted place in a new package, and returns its full name."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(content: str, inside: str = "matches") -> str:
        package = f"own_package_{next(numbers)}"
        directory = tmp_path / package
        directory.mkdir()
        *packages, module = inside.split(".")
        for name in packages:
            directory /= name
            directory.mkdir()
        (directory / f"{module}.py").write_text(content)
        importlib.invalidate_caches()
        return f"{package}.{inside}"

    return write


@pytest.fixture
def entry_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """A function that installs a distribution which offers MatchMakers by the lines of its entry points."""

    def install(lines: str) -> None:
        site = tmp_path / f"site{next(numbers)}"
        info = site / "own_matchmakers-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: own-matchmakers\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[brokerless.matchmakers]\n{lines}\n")
        monkeypatch.syspath_prepend(str(site))

    return install


def refusal(name: str, settings: Settings) -> str:
    with pytest.raises(MatchMakerError) as caught:
        load_matchmaker(name, settings)
    assert str(caught.value).isprintable()
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("ring", MatchMakerRing),
        ("fanout-ring", MatchMakerFanoutRing),
        ("localhost", MatchMakerLocalhost),
        ("redis", MatchMakerRedis),
        ("stub", MatchMakerStub),
        ("MatchMakerRing", MatchMakerRing),
        ("MatchMakerFanoutRing", MatchMakerFanoutRing),
        ("MatchMakerLocalhost", MatchMakerLocalhost),
        ("MatchMakerRedis", MatchMakerRedis),
        ("MatchMakerStub", MatchMakerStub),
        ("MatchMakerPassthrough", MatchMakerStub),
        ("nova.rpc.matchmaker.MatchMakerLocalhost", MatchMakerLocalhost),
        ("nova.rpc.matchmaker.MatchMakerFanoutRing", MatchMakerFanoutRing),
        ("nova.rpc.impl_zmq.MatchMakerRing", MatchMakerRing),
        ("nova.openstack.common.rpc.matchmaker.MatchMakerRing", MatchMakerRing),
        ("cinder.openstack.common.rpc.matchmaker_ring.MatchMakerRing", MatchMakerRing),
        ("nova.openstack.common.rpc.matchmaker_redis.MatchMakerRedis", MatchMakerRedis),
        ("brokerless.rpc.matchmaker.stub.MatchMakerStub", MatchMakerStub),
    ],
)
def test_the_names_of_the_built_in_ones(name: str, expected: type[MatchMaker], settings: Settings) -> None:
    matchmaker = load_matchmaker(name, settings)
    assert matchmaker.__class__ is expected
    assert matchmaker.settings is settings


def test_one_of_the_users_own(own_package: Callable[[str], str], settings: Settings) -> None:
    matchmaker = load_matchmaker(f"{own_package(OWN)}.Own", settings)
    assert matchmaker.route(Address("compute")) == Route(("one-of-mine",))
    assert str(matchmaker) == "MatchMaker own"


def test_one_of_the_users_own_may_lie_where_nova_had_its(own_package: Callable[[str, str], str], settings: Settings) -> None:
    assert load_matchmaker(f"{own_package(OWN, 'rpc.matchmaker')}.Own", settings).name == "own"


def test_one_that_a_distribution_offers(own_package: Callable[[str], str], entry_point: Callable[[str], None], settings: Settings) -> None:
    entry_point(f"own-by-name = {own_package(OWN)}:Own")
    assert load_matchmaker("own-by-name", settings).name == "own"
    assert "own-by-name" in known_names()


def test_a_distribution_does_not_replace_a_built_in_one(
    own_package: Callable[[str], str], entry_point: Callable[[str], None], settings: Settings
) -> None:
    entry_point(f"ring = {own_package(OWN)}:Own")
    assert load_matchmaker("ring", settings).__class__ is MatchMakerRing


def test_the_names_that_are_known() -> None:
    assert {"fanout-ring", "localhost", "redis", "ring", "stub"} <= set(known_names())
    assert known_names() == sorted(known_names())


@pytest.mark.parametrize("name", ["", "rings", "Ring", "MatchMakerRedis2", " ring"])
def test_an_unknown_short_name_is_refused_with_the_known_ones(name: str, settings: Settings) -> None:
    text = refusal(name, settings)
    assert text.startswith(f"rpc_zmq_matchmaker {name!r} is not known; there are ")
    for known in ("fanout-ring, ", "localhost", "package.module.Class"):
        assert known in text


@pytest.mark.parametrize(
    "name",
    [
        "no_such_package_here.module.Class",
        "nova.rpc.matchmaker.NoSuch",
        "json.NoSuch",
        "json.",
        "..ring",
        ".json.X",
        "json..X",
        "json.no/such.X",
        "a\0.b",
    ],
)
def test_what_can_not_be_loaded_is_named(name: str, settings: Settings) -> None:
    assert refusal(name, settings).startswith(f"rpc_zmq_matchmaker {name!r} can't be loaded: ")


@pytest.mark.parametrize(
    ("last", "fault"),
    [
        ("NoMatchMaker", " is not a class that derives from brokerless.rpc.matchmaker.base.MatchMaker"),
        ("not_a_class", " is not a class that derives from brokerless.rpc.matchmaker.base.MatchMaker"),
        ("Incomplete", " is not complete; it lacks route_fanout"),
        ("MatchMaker", " is not complete; it lacks route_bare, route_fanout"),
        ("Nameless", " is not complete; it lacks a name"),
        ("Stubborn", " can't be made: KeyError: 'no map'"),
        ("Missing", " can't be loaded: AttributeError: "),
    ],
)
def test_a_class_that_is_no_matchmaker_is_named(last: str, fault: str, own_package: Callable[[str], str], settings: Settings) -> None:
    name = f"{own_package(OWN)}.{last}"
    assert refusal(name, settings).startswith(f"rpc_zmq_matchmaker {name!r}{fault}")


def test_what_a_matchmaker_says_of_its_source_is_left_as_it_is(own_package: Callable[[str], str], settings: Settings) -> None:
    with pytest.raises(ValueError, match=r"^file map\.json: missing$"):
        load_matchmaker(f"{own_package(OWN)}.Careful", settings)


@pytest.mark.parametrize(
    ("content", "fault"),
    [("def", "SyntaxError: "), ("1 / 0", "ZeroDivisionError: division by zero"), ("import no_such_module_here", "ModuleNotFoundError: ")],
)
def test_a_module_with_a_fault_is_named(
    content: str, fault: str, own_package: Callable[[str], str], entry_point: Callable[[str], None], settings: Settings
) -> None:
    module = own_package(content)
    assert f"rpc_zmq_matchmaker '{module}.Own' can't be loaded: {fault}" in refusal(f"{module}.Own", settings)
    entry_point(f"faulty = {module}:Own")
    assert f"rpc_zmq_matchmaker 'faulty': its entry point {module}:Own can't be loaded: {fault}" in refusal("faulty", settings)


def test_an_entry_point_that_is_no_matchmaker_is_named(
    own_package: Callable[[str], str], entry_point: Callable[[str], None], settings: Settings
) -> None:
    entry_point(f"nothing = {own_package(OWN)}:NoMatchMaker")
    assert refusal("nothing", settings).startswith("rpc_zmq_matchmaker 'nothing' is not a class that derives from")
