# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""When rpcdaemon acts, when it refuses to, and where it puts things: every threshold, with its default and its unit.

What Neutron's own failover does sets the pace: it moves the first router at the earliest 2 x agent_down_time after the last heartbeat. The
defaults act after 1.2 x agent_down_time, and after at most 1.7 x agent_down_time if the agent was not heard since we listen.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any

from .maintenance import parse_windows


class PolicyError(ValueError):
    """A threshold is not acceptable; the message names it, the value, and what is allowed."""


class Fencing(StrEnum):
    """What has to happen to a dead agent's host before its routers are started elsewhere."""

    NONE = "none"
    TRY = "try"
    REQUIRE = "require"


HOLD_OFF_SHARE = 0.2
UNHEARD_SHARE = 1.5
OVERDUE_SHARE = 1.5
QUIET_SHARE = 2.0
"""What thresholds are by default: the first two as a share of agent_down_time, the others of report_interval."""


def _about(meaning: str, unit: str = "", at_least: float | None = None, at_most: float | None = None) -> dict[str, Any]:
    return {"help": meaning, "unit": unit, "at_least": at_least, "at_most": at_most}


def _setting(default: Any, meaning: str, unit: str = "", at_least: float | None = None, at_most: float | None = None) -> Any:
    # pylint: disable-next=invalid-field-call # what a dataclass' field says is said in one place
    return field(default=default, metadata=_about(meaning, unit, at_least, at_most))


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicySettings:
    """All thresholds. The metadata of each field holds `help`, `unit`, `at_least` and `at_most`, for the option table and the docs.

    The defaults fit agent_down_time 75 and report_interval 30; `for_intervals` derives those that depend on the two. Raises `PolicyError`.
    """

    agent_down_time: float = _setting(75.0, "After so long a silence an agent is silent, as Neutron's agent_down_time.", "s", 1)
    report_interval: float = _setting(30.0, "How often agents report, as Neutron's report_interval.", "s", 0.1)
    overdue_after: float = _setting(
        OVERDUE_SHARE * 30, "A report that is so late makes the agent a suspect, to which nothing is moved (1.5 x report_interval).", "s", 0.1
    )
    unheard_after: float = _setting(
        UNHEARD_SHARE * 75,
        "So long we must have listened without a gap before an agent that was not heard since is silent (1.5 x agent_down_time).",
        "s",
        0.1,
    )
    reconnect_grace: float = _setting(
        30.0,
        "After the bus was away, agents that were not heard since have so much longer: oslo.messaging pauses up to 30 s between attempts to connect.",
        "s",
        0,
    )
    hold_off: float = _setting(
        HOLD_OFF_SHARE * 75, "So long the bus and Neutron must agree that an agent is silent before it is dead (0.2 x agent_down_time).", "s", 0
    )
    return_after: float = _setting(
        60.0, "So long an agent that was dead must be heard again before it counts as alive (2 x report_interval).", "s", 0
    )
    quiet_after: float = _setting(
        QUIET_SHARE * 30, "If no agent of the cloud is heard for so long, we are taken to be deaf, not they dead (2 x report_interval).", "s", 0.1
    )
    tick_gap: float = _setting(30.0, "If we stood still for longer than this, we start listening anew (report_interval).", "s", 0.1)
    max_lag: float = _setting(37.5, "If heartbeats reach us so much later than usual, nobody is judged (0.5 x agent_down_time).", "s", 0.1)
    max_backlog: int = _setting(5000, "If so many messages wait in our queue, nobody is judged.", "messages", 1)
    api_fresh: float = _setting(37.5, "Neutron's word about an agent counts for so long after we asked (0.5 x agent_down_time).", "s", 0.1)
    probe_fresh: float = _setting(75.0, "The result of a probe counts for so long (agent_down_time).", "s", 0.1)
    start_grace_per_resource: float = _setting(
        0.5, "An agent that was just started may be silent for so much longer, per router or network that it hosts.", "s", 0
    )
    start_grace_max: float = _setting(300.0, "The longest grace of an agent that was just started.", "s", 0)
    retired_after: float = _setting(
        86_400.0, "An agent that reported so much earlier than the newest report in Neutron's list is not evacuated by itself.", "s", 60
    )
    skew_report: float = _setting(5.0, "An agent's clock that is off by more than this is reported; it changes no verdict.", "s", 0)

    flap_half_life: float = _setting(600.0, "The penalty that an agent gets for each return from the dead halves in so long.", "s", 1)
    flap_limit: float = _setting(2.5, "From this penalty on an agent is damped: it gets something only if nobody else can.", "returns", 1)
    flap_reuse: float = _setting(1.0, "Below this penalty an agent is no longer damped.", "returns", 0)

    mass_failure_share: float = _setting(
        0.34, "If more than this share of the agents of a kind (of a zone, of all hosts) falls silent at once, nothing is moved.", "share", 0, 1
    )
    mass_failure_number: int = _setting(10, "If more than so many agents of a kind fall silent at once, nothing is moved.", "agents", 1)
    mass_failure_window: float = _setting(60.0, "Within so long is at once (2 x report_interval).", "s", 0.1)
    survivors_share: float = _setting(
        0.25, "If less than this share of the agents of a kind is left alive, nothing is moved, however slowly they died.", "share", 0, 1
    )
    guard_release_after: float = _setting(75.0, "The guard lets go by itself when for so long no limit was exceeded (agent_down_time).", "s", 0)

    fencing: Fencing = field(
        default=Fencing.NONE,
        metadata=_about(
            "What has to happen to a dead agent's host before its routers start elsewhere: none; try: fence it, then move in any case; require: "
            "move only if the fencing succeeded or a probe proves that the host forwards nothing."
        ),
    )
    fencing_by_host: Mapping[str, Fencing] = field(default_factory=dict, metadata=_about("The same for single hosts, by name."))
    evacuate_disabled: bool = _setting(True, "Whether a dead agent with admin_state_up false is evacuated, which Neutron does not do.")
    adopt_orphans: bool = _setting(False, "Whether routers that no agent hosts are given to one.")
    orphan_after: float = _setting(60.0, "So long a router must have had no agent before it is adopted.", "s", 0)
    stand_back: float = _setting(30.0, "So long we leave an agent's routers and networks alone after something else moved one of them.", "s", 0)
    hands_off_tag: str = _setting("rpcdaemon:hands-off", "Routers and networks with this tag are never touched.")
    priority_tag: str = _setting("rpcdaemon:first", "Routers and networks with this tag are moved first.")
    ha_members: int = _setting(3, "How many agents host an HA router, as Neutron's max_l3_agents_per_router; 0 for as many as do now.", "agents", 0)
    dhcp_agents_per_network: int = _setting(0, "How many agents serve a network; 0 for every live one that can.", "agents", 0)
    dhcp_trim: bool = _setting(False, "Whether surplus agents are taken from networks that are served by more than that.")
    rebalance_threshold: int = _setting(2, "Agents whose numbers of routers differ by no more than this are left as they are.", "routers", 1)
    failback_per_hour: int = _setting(0, "So many routers an hour are moved to agents that came back; 0 for none.", "moves", 0)
    failback_windows: str = _setting(
        "", "When routers are moved back, in UTC, such as mon-fri 22:00-06:00, sun 00:00-24:00; at any time if empty. Evacuations wait for no window."
    )
    drain_in_flight: int = _setting(1, "So many moves of a drain are under way at a time.", "moves", 1)
    evacuate_in_flight: int = _setting(2, "So many moves of an evacuation are under way at a time.", "moves", 1)
    settle_within: float = _setting(
        60.0, "So long a router that was moved may take until its ports and floating IPs are ACTIVE where it went; 0 to not look.", "s", 0
    )
    disable_after_drain: bool = _setting(False, "Whether a drained agent gets admin_state_up false once nothing is left on it.")

    def __post_init__(self) -> None:
        for option in fields(self):
            value = getattr(self, option.name)
            low, high = option.metadata["at_least"], option.metadata["at_most"]
            if (low is not None and not value >= low) or (high is not None and not value <= high):
                limits = (("at least", low), ("at most", high))
                allowed = " and ".join(f"{name} {limit:g}" for name, limit in limits if limit is not None)
                raise PolicyError(f"{option.name} is {value}, but must be {allowed}")
        try:
            parse_windows(self.failback_windows)
        except ValueError as error:
            raise PolicyError(f"failback_windows: {error}") from error
        if self.agent_down_time < 2 * self.report_interval:
            raise PolicyError(
                f"agent_down_time is {self.agent_down_time:g} s, but must be at least twice report_interval ({self.report_interval:g} s): one late "
                "report would be a death"
            )
        if not self.overdue_after < self.agent_down_time <= self.unheard_after:
            raise PolicyError(
                f"overdue_after ({self.overdue_after:g} s) must be less than agent_down_time ({self.agent_down_time:g} s), and unheard_after "
                f"({self.unheard_after:g} s) at least as much"
            )

    @classmethod
    def for_intervals(cls, agent_down_time: float, report_interval: float, **chosen: Any) -> PolicySettings:
        """Return the settings for Neutron's two intervals (seconds): thresholds that are not among the `chosen` follow from them."""
        derived = {
            "overdue_after": OVERDUE_SHARE * report_interval,
            "unheard_after": UNHEARD_SHARE * agent_down_time,
            "hold_off": HOLD_OFF_SHARE * agent_down_time,
            "return_after": 2 * report_interval,
            "quiet_after": QUIET_SHARE * report_interval,
            "tick_gap": report_interval,
            "max_lag": 0.5 * agent_down_time,
            "api_fresh": 0.5 * agent_down_time,
            "probe_fresh": agent_down_time,
            "mass_failure_window": 2 * report_interval,
            "guard_release_after": agent_down_time,
        }
        return cls(agent_down_time=agent_down_time, report_interval=report_interval, **{**derived, **chosen})

    def carried_out(self, *, hurry: bool) -> dict[str, Any]:
        """Return `in_flight` and `settle` of a plan that leaves a dead agent (`hurry`), or of one whose routers work where they are."""
        if hurry:
            return {"in_flight": self.evacuate_in_flight, "settle": False}
        return {"in_flight": self.drain_in_flight, "settle": bool(self.settle_within)}

    @property
    def acts_after(self) -> float:
        """Return how long after its last heartbeat (seconds) an agent that we listen to is dead, if Neutron agrees."""
        return self.agent_down_time + self.hold_off

    def fencing_of(self, host: str) -> Fencing:
        """Return what has to happen to `host` before what it ran is started elsewhere."""
        return self.fencing_by_host.get(host, self.fencing)

    def warnings(self) -> list[str]:
        """Return what is allowed, but later or riskier than an operator may think."""
        found = []
        if max(self.acts_after, self.unheard_after + self.hold_off) > 2 * self.agent_down_time:
            found.append(
                f"an agent is dead up to {max(self.acts_after, self.unheard_after + self.hold_off):g} s after its last heartbeat: later than "
                f"Neutron's own failover, which acts from {2 * self.agent_down_time:g} s on"
            )
        if self.acts_after - self.report_interval < self.overdue_after:
            found.append(
                "the first agent of a mass failure is dead before the last one is overdue: the guard may let it pass; "
                f"raise hold_off to at least {self.overdue_after + self.report_interval - self.agent_down_time:g} s"
            )
        return found
