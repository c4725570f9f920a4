# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import itertools

from brokerless.ha.placement import Choice, Placement
from brokerless.ha.snapshot import L3, Agent
from hypothesis import given
from hypothesis import strategies as st

NAMES = ("a", "b", "c", "d")
CHOICES = st.sets(st.sampled_from(NAMES), min_size=1).map(lambda names: tuple(sorted(names)))


def agents(*names: str, zone: str = "") -> list[Agent]:
    return [Agent(name, f"host-{name}", L3, zone=zone) for name in names]


def squares(loads: dict[str, int]) -> int:
    return sum(load * load for load in loads.values())


def test_the_least_loaded_is_chosen_and_of_equals_the_first() -> None:
    placement = Placement({"a": 2, "b": 1, "c": 1}, agents("c", "b", "a"))
    best = placement.least_loaded(("a", "b", "c"))
    assert best is not None
    assert best.id == "b"
    assert placement.least_loaded(()) is None


def test_a_zone_that_has_one_is_shunned() -> None:
    placement = Placement({"a": 0, "b": 5}, [*agents("a", zone="x"), *agents("b", zone="y")])
    best = placement.least_loaded(("a", "b"), frozenset({"x"}))
    assert best is not None
    assert best.id == "b"


def test_chains_of_exchanges_make_loads_even() -> None:
    placement = Placement({"a": 4, "b": 1, "c": 0}, agents("a", "b", "c"))
    for number in range(4):
        placement.put(f"ab{number}", "a", ("a", "b"))
    placement.put("bc", "b", ("b", "c"))
    placement.even_out()
    assert placement.loads == {"a": 2, "b": 2, "c": 1}
    assert placement.where()["bc"].id == "c"


def test_a_budget_is_kept_and_a_small_difference_is_left() -> None:
    placement = Placement({"a": 9, "b": 0}, agents("a", "b"))
    for number in range(9):
        placement.put(f"{number}", "a", ("a", "b"))
    placement.even_out(budget=2)
    assert placement.loads == {"a": 7, "b": 2}
    placement.even_out(difference=6)
    assert placement.loads == {"a": 7, "b": 2}
    placement.even_out(difference=4)
    assert placement.loads == {"a": 6, "b": 3}


@given(st.lists(CHOICES, max_size=6), st.lists(st.integers(0, 4), min_size=4, max_size=4))
def test_no_other_placement_is_more_even(choices: list[Choice], before: list[int]) -> None:
    start = dict(zip(NAMES, before, strict=True))
    placement = Placement(start, agents(*NAMES))
    placement.place([(str(number), choice) for number, choice in enumerate(choices)])
    placement.even_out()
    where = placement.where()
    assert all(where[str(number)].id in choice for number, choice in enumerate(choices))
    assert placement.loads == {name: start[name] + sum(agent.id == name for agent in where.values()) for name in NAMES}

    def placed(way: tuple[str, ...]) -> dict[str, int]:
        return {name: start[name] + way.count(name) for name in NAMES}

    assert squares(placement.loads) == min(squares(placed(way)) for way in itertools.product(*choices))


def test_the_work_is_things_times_agents_also_if_the_last_have_the_least_choice() -> None:
    names = [f"{each:03}" for each in range(100)]
    placement = Placement(dict.fromkeys(names, 0), agents(*names))
    placement.place([(str(thing), tuple(names if thing < 1000 else names[:10])) for thing in range(2000)])
    placement.even_out()
    assert sorted(set(placement.loads.values())) == [11, 12, 100]
    assert placement.steps <= 1000 * 100 + 1000 * 10 + 100 * 110
