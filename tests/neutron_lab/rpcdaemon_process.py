# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""A real rpcdaemon process in a lab, with links of its own to the bus and to the API, which a test may cut."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable, Mapping
from datetime import datetime
from types import TracebackType
from typing import Any, Self

from brokerless.ha.control import NobodyLeads, ask
from lab import Lab
from neutron_services import ApiRequest
from receiver_process import PATIENCE, wait_until
from rpcdaemon_program import RPCDAEMON, environment

READY_SECONDS = 90.0
"""How long it may take until a daemon that was started leads and judges."""

OPERATOR = "operator"
"""Whose link to RabbitMQ is used for commands: no test cuts it."""


class RpcdaemonProcess:
    """A daemon, or one of several replicas; a context that starts it and ends it."""

    def __init__(
        self,
        lab: Lab,
        name: str = "rpcdaemon",
        plugins: str = "L3Agent",
        policy: Mapping[str, object] | None = None,
        more: Mapping[str, object] | None = None,
    ) -> None:
        """`name` is its instance and the name of its links; `policy` are keys of `[Policy]`, `more` of `[Daemon]`. Nothing is started yet."""
        self.lab = lab
        self.name = name
        self._directory = lab.directory / f"rpcdaemon-{name}"
        self._directory.mkdir(exist_ok=True)
        self._config = self._directory / "rpcdaemon.conf"
        self._log = self._directory / "rpcdaemon.log"
        self._audit = self._directory / "audit"
        self._process: subprocess.Popen[bytes] | None = None
        conffile = self._directory / "neutron.conf"
        settings = lab.settings
        conffile.write_text(
            f"[DEFAULT]\nagent_down_time = {settings.agent_down_time}\nallow_automatic_dhcp_failover = {settings.allow_automatic_dhcp_failover}\n"
            f"[AGENT]\nreport_interval = {settings.report_interval}\n"
            f"[keystone_authtoken]\nauth_type = none\nendpoint = {lab.api_url(name)}\n",
            encoding="utf-8",
        )
        daemon = {
            "plugins": plugins,
            "instance": name,
            "state_dir": self._directory,
            "audit_file": self._audit,
            "lease": LEASE_SECONDS,
            "loglevel": "DEBUG",
            **lab.how_rpcdaemon_hears(name),
            **(more or {}),
        }
        plugin = {"conffile": conffile, "timeout": CALL_SECONDS}
        sections = {"Daemon": daemon, "L3Agent": plugin, "DHCPAgent": plugin, "Policy": policy or {}}
        self._config.write_text("".join(_section(name, keys) for name, keys in sections.items()), encoding="utf-8")

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if error is None:
            self.stop()
        else:
            self.kill()

    def start(self) -> None:
        """Start it, and return at once."""
        with self._log.open("ab") as log:
            command = [*RPCDAEMON, "-c", str(self._config), "-d"]
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment())

    def stop(self) -> None:
        """Ask it to end (SIGTERM), and return when it has; fails unless it ended well."""
        if self._process is not None:
            self._process.terminate()
            assert self._process.wait(PATIENCE) == 0, self.log[-3000:]
            self._process = None

    def kill(self) -> None:
        """Kill it (SIGKILL), also when it stands still."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(PATIENCE)
            self._process = None

    def restart(self) -> None:
        """End it in good order, and start it anew."""
        self.stop()
        self.start()

    def freeze(self) -> None:
        """Let it stand still (SIGSTOP)."""
        assert self._process
        os.kill(self._process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        assert self._process
        os.kill(self._process.pid, signal.SIGCONT)

    @property
    def running(self) -> bool:
        """Whether its process is there."""
        return self._process is not None and self._process.poll() is None

    @property
    def log(self) -> str:
        """All that it logged, over all its starts."""
        return self._log.read_text(encoding="utf-8")

    # --- what an operator sees ---------------------------------------------------------------------------------------------------------------

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run `rpcdaemon` with its configuration and these arguments to its end."""
        return subprocess.run([*RPCDAEMON, "-c", str(self._config), *arguments], capture_output=True, text=True, check=False, env=environment())

    def status(self) -> dict[str, Any]:
        """Return what the leader, whichever replica it is, says of itself; nothing while nobody leads."""
        return leader_of(self.lab)

    def alarms(self) -> dict[str, str]:
        """Return the texts of the leader's alarms, by name."""
        return {each["name"]: each["text"] for each in self.status().get("alarms", ())}

    def alarms_told(self, since: int = 0) -> str:
        """Return all alarms that it wrote into its audit file, from the line `since` on."""
        return "\n".join(str(each["text"]) for each in self.audit()[since:] if each["event"] == "alarm")

    def audit(self) -> list[dict[str, Any]]:
        """Return the lines of its audit file, without one that is just being written."""
        whole, _end, _rest = (self._audit.read_text(encoding="utf-8") if self._audit.exists() else "").rpartition("\n")
        return [json.loads(line) for line in whole.splitlines()]

    def events(self, *kinds: str) -> int:
        """Return how many lines its audit file has of these kinds of events."""
        return sum(each["event"] in kinds for each in self.audit())

    def figures(self, since: int, struck: float) -> str:
        """Return, in seconds after `struck` (since the epoch), when it called an agent dead, planned, began and ended, by its audit file."""
        lines = self.audit()[since:]
        marks = {
            "detected": [each for each in lines if each["event"] == "transition" and each["after"] == "dead" and _at(each) > struck],
            "decided": [each for each in lines if each["event"] == "plan" and each["plan"]["actions"] and _at(each) > struck],
            "began to move": [each for each in lines if each["event"] == "began"],
            "first moved": [each for each in lines if each["event"] == "ended"],
        }
        last = [each for each in lines if each["event"] == "ended"][-1:]
        told = [f"{name} {_at(found[0]) - struck:.1f} s" for name, found in (*marks.items(), ("all done", last)) if found]
        slowest = max((float(each["seconds"]) for each in lines if each["event"] == "called"), default=0.0)
        return f"{self.name}: {', '.join(told)}; its slowest call took {slowest:.1f} s"

    # --- what the API and others saw ---------------------------------------------------------------------------------------------------------

    def requests(self) -> list[ApiRequest]:
        """Return the requests that it made, by Neutron's access log."""
        return self.lab.neutron_api.requests(f"rpcdaemon ({self.name})")

    def writes(self) -> list[ApiRequest]:
        """Return those that change something."""
        return [request for request in self.requests() if request.writes]

    def wait_until(self, condition: Callable[[], object], what: str, patience: float = READY_SECONDS) -> None:
        """Return when `condition()` holds; if it does not in time, fail with `what` and the end of what it logged."""
        try:
            wait_until(condition, what, patience)
        except AssertionError as error:
            said = [line for line in self.log.splitlines() if " DEBUG " not in line]
            raise AssertionError("\n".join([str(error), f"{self.name} logged:", *said[-60:]])) from None

    def await_calm(self, *dead: str) -> None:
        """Return when it leads and is sure that all L3 agents are alive, but for those of the `dead` hosts."""

        def calm() -> bool:
            status = self.status()
            if status.get("instance") != self.name or status["hearing"]["trouble"] or status["judgement"]["freezes"]:
                return False
            states = {each["host"]: each["state"] for each in status["judgement"]["agents"] if each["agent_type"] == "L3 agent"}
            return bool(states) and all(state == ("dead" if host in dead else "alive") for host, state in states.items())

        self.wait_until(calm, f"{self.name} leads and all is well")


def leader_of(lab: Lab) -> dict[str, Any]:
    """Return the status that whoever leads gives; nothing while nobody does."""
    try:
        return ask([lab.bus_url(OPERATOR)], {"command": "status"}, 2.0)
    except NobodyLeads:
        return {}


CALL_SECONDS = 5.0
LEASE_SECONDS = 8.0
"""How long a call of the API may take, and how long a leader that is not heard of leads on."""


def _at(line: Mapping[str, Any]) -> float:
    return datetime.fromisoformat(line["at"]).timestamp()


def _section(name: str, options: Mapping[str, object]) -> str:
    return f"[{name}]\n" + "".join(f"{key} = {value}\n" for key, value in options.items())
