# Copyright: Contributors to brokerless.openstack
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run a long-running process without an init system."""

from __future__ import annotations

DOCUMENTATION = r"""
module: process
short_description: Run a long-running process without an init system
version_added: "0.1.0"
author:
  - Contributors to brokerless.openstack (@brokerless)
description:
  - Starts, stops, restarts or reloads a process that no init system looks after, as in a container or for a user without privileges.
  - The process is started detached, in a session of its own, with its output in a log file. It must stay in the foreground, so it must
    not fork itself away.
  - The pid file holds the pid on its first line, and on the second what tells the process from a later one with the same pid. A process that
    is not the one that this module started never gets a signal.
  - Nobody restarts the process when it dies or after a reboot. Where there is an init system, use it.
options:
  name:
    description:
      - What the process is called in messages.
    type: str
    required: true
  command:
    description:
      - The program and its arguments. No shell sees them.
      - Needed unless O(state=stopped) or O(state=reloaded).
    type: list
    elements: str
  pid_file:
    description:
      - The pid file, as an absolute path. Its directory must exist.
    type: path
    required: true
  log_file:
    description:
      - The file that the output of the process is appended to, as an absolute path. Its directory must exist.
      - The default is O(pid_file) with C(.log) for its last suffix.
    type: path
  chdir:
    description:
      - The directory that the process starts in.
    type: path
    default: /
  environment:
    description:
      - Environment variables of the process, besides those of the task.
    type: dict
    default: {}
  state:
    description:
      - V(started) starts the process if it does not run. If it runs, but was started with another O(command), O(chdir), O(environment) or
        O(log_file), it is restarted.
      - V(stopped) sends SIGTERM and waits until it has ended.
      - V(restarted) stops it if it runs, and starts it.
      - V(reloaded) sends SIGHUP. If it does not run it is started, and if it was started with another O(command) and so on, restarted.
    type: str
    choices:
      - started
      - stopped
      - restarted
      - reloaded
    default: started
  timeout:
    description:
      - How many seconds the process may take to get ready (see O(ready_socket) and O(ready_file)), and to end after SIGTERM.
      - A process that is not ready in time is stopped again.
    type: float
    default: 30
  force:
    description:
      - Send SIGKILL to the process and its process group if it still runs O(timeout) seconds after SIGTERM. Otherwise that is a failure.
    type: bool
    default: true
  ready_socket:
    description:
      - A UNIX socket. The process is ready once it accepts connections.
    type: path
  ready_file:
    description:
      - A file. The process is ready once it has written it; one that an earlier process left behind does not count.
    type: path
  settle:
    description:
      - For how many seconds a process must live to count as started if neither O(ready_socket) nor O(ready_file) is given.
    type: float
    default: 0.5
extends_documentation_fragment:
  - brokerless.openstack.attributes
attributes:
  check_mode:
    support: full
    details:
      - Neither the program nor any directory has to exist in check mode, as earlier tasks may be about to make them.
  diff_mode:
    support: full
  idempotent:
    support: partial
    details:
      - O(state=started) and O(state=stopped) are idempotent. O(state=restarted) and O(state=reloaded) always change something.
seealso:
  - module: ansible.builtin.systemd_service
"""

EXAMPLES = r"""
- name: A receiver of one's own
  brokerless.openstack.process:
    name: receiver
    command:
      - /opt/brokerless/current/bin/brokerless-receiver
      - --config-file
      - /srv/control1/brokerless.conf
    pid_file: /srv/control1/receiver.pid
    log_file: /srv/control1/receiver.log
    ready_socket: /srv/control1/ipc/receiver.sock

- name: Read the ring file again
  brokerless.openstack.process:
    name: receiver
    pid_file: /srv/control1/receiver.pid
    state: reloaded

- name: Let it finish its work and end
  brokerless.openstack.process:
    name: receiver
    pid_file: /srv/control1/receiver.pid
    state: stopped
    timeout: 60
"""

RETURN = r"""
name:
  description: What the process is called.
  returned: always
  type: str
  sample: receiver
pid:
  description: The pid of the running process.
  returned: if it runs
  type: int
  sample: 4711
actions:
  description: What was done, or would be done in check mode.
  returned: success
  type: list
  elements: str
  sample:
    - stop
    - start
pid_file:
  description: The pid file.
  returned: always
  type: str
  sample: /srv/control1/receiver.pid
log_file:
  description: The log file.
  returned: always
  type: str
  sample: /srv/control1/receiver.log
log:
  description: The last lines that the process wrote.
  returned: if the process ended at once or did not get ready
  type: list
  elements: str
  sample:
    - "port 9500 of 127.0.0.1 is in use"
"""

import signal
import typing as t
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.brokerless.openstack.plugins.module_utils._detached_process import (
    Identity,
    ProcessFault,
    Readiness,
    Recipe,
    accepts,
    before_start,
    end,
    exclusive,
    exit_of,
    log_tail,
    running_process,
    send,
    size_of,
    start,
    stays_alive,
    wait_until_ready,
)

LOG_LINES = 20
LOG_LINES_IN_MESSAGE = 5


class NotStarted(ProcessFault):
    """A process was started but does not run or is not ready; `log` holds the last lines that it wrote."""

    def __init__(self, message: str, log: list[str]) -> None:
        super().__init__(message)
        self.log = log


def plan(state: str, runs: bool, outdated: bool, stale: bool) -> list[str]:
    """Return the actions that lead to `state`, of: stop, start, reload, forget (take away a pid file that names nothing that runs)."""
    if state == "stopped":
        return ["stop"] if runs else ["forget"] if stale else []
    if not runs:
        return ["start"]
    if state == "restarted" or outdated:
        return ["stop", "start"]
    return ["reload"] if state == "reloaded" else []


def described(runs: bool, actions: list[str]) -> str:
    """Return what the process does once the actions are done, for the diff."""
    if actions == ["stop", "start"]:
        return "running (restarted)"
    if actions == ["reload"]:
        return "running (reloaded)"
    return "running" if "start" in actions or (runs and "stop" not in actions) else "stopped"


class ProcessModule:
    """The module at work on one process."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        params = module.params
        self.pid_file = Path(params["pid_file"])
        self.log_file: str = params["log_file"] or str(self.pid_file.with_suffix(".log"))
        self.timeout: float = params["timeout"]
        environment = {str(name): str(value) for name, value in params["environment"].items()}
        self.recipe = Recipe(tuple(params["command"]), params["chdir"], environment, self.log_file) if params["command"] else None
        self.facts: dict[str, t.Any] = {"name": params["name"], "pid_file": str(self.pid_file), "log_file": self.log_file}

    def run(self) -> dict[str, t.Any]:
        """Do what is asked for and return the module's result. Raises `ProcessFault`."""
        if self.module.check_mode:
            return self._predict(running_process(self.pid_file))
        with exclusive(self.pid_file.parent):
            identity = running_process(self.pid_file)
            result = self._predict(identity)
            for action in result["actions"]:
                identity = self._act(action, identity)
            if identity and not result["actions"]:
                self._wait_for_running(identity)
        return {**result, **({"pid": identity.pid} if identity else {})}

    def _predict(self, identity: Identity | None) -> dict[str, t.Any]:
        outdated = identity is not None and self.recipe is not None and identity.recipe != self.recipe.digest()
        actions = plan(self.module.params["state"], identity is not None, outdated, self.pid_file.exists())
        if "start" in actions and self.recipe is None:
            raise ProcessFault("it does not run, and no command is given to start it")
        result = {**self.facts, "changed": bool(actions), "actions": actions}
        if identity and "stop" not in actions:
            result["pid"] = identity.pid
        result["diff"] = {
            "before_header": self.facts["name"],
            "after_header": self.facts["name"],
            "before": described(identity is not None, []) + "\n",
            "after": described(identity is not None, actions) + "\n",
        }
        return result

    def _act(self, action: str, identity: Identity | None) -> Identity | None:
        if action == "start" and self.recipe:
            return self._start(self.recipe)
        if action == "stop" and identity:
            if self.recipe and self.module.params["state"] != "stopped":
                # What can't be started again had better go on running.
                self.recipe.program()
            self._stop(identity)
            return None
        if action == "forget":
            self.pid_file.unlink(missing_ok=True)
        if action == "reload" and identity:
            send(identity, signal.SIGHUP)
        return identity

    def _stop(self, identity: Identity) -> None:
        if end(identity, self.timeout, self.module.params["force"]):
            self.module.warn(f"process {self.facts['name']} (pid {identity.pid}) did not end {self.timeout:g} seconds after SIGTERM and was killed")
        self.pid_file.unlink(missing_ok=True)

    def _start(self, recipe: Recipe) -> Identity:
        ready_socket = self.module.params["ready_socket"]
        if ready_socket and accepts(ready_socket):
            raise ProcessFault(f"another process listens on {ready_socket} already; stop that one first")
        readiness = before_start(ready_socket, self.module.params["ready_file"])
        offset = size_of(self.log_file)
        process, identity = start(recipe, self.pid_file)
        if ready_socket or self.module.params["ready_file"]:
            missing = wait_until_ready(readiness, lambda: process.poll() is None, self.timeout)
        else:
            missing = "" if stays_alive(process, self.module.params["settle"]) else "it ended"
        if process.poll() is not None:
            self.pid_file.unlink(missing_ok=True)
            raise self._not_started(f"ended at once with {exit_of(process)}", offset)
        if missing:
            self._stop(identity)
            raise self._not_started(f"was not ready after {self.timeout:g} seconds and was stopped again: {missing}", offset)
        return identity

    def _wait_for_running(self, identity: Identity) -> None:
        params = self.module.params
        readiness = Readiness(params["ready_socket"], params["ready_file"])
        missing = wait_until_ready(readiness, lambda: running_process(self.pid_file) == identity, self.timeout)
        if missing:
            raise ProcessFault(f"it runs (pid {identity.pid}) but is not ready: {missing}; see {self.log_file}")

    def _not_started(self, what: str, offset: int) -> NotStarted:
        log = log_tail(self.log_file, offset, LOG_LINES)
        said = f"its last lines in {self.log_file}: {' | '.join(log[-LOG_LINES_IN_MESSAGE:])}" if log else f"it wrote nothing to {self.log_file}"
        return NotStarted(f"{what}; {said}", log)


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "command": {"type": "list", "elements": "str"},
            "pid_file": {"type": "path", "required": True},
            "log_file": {"type": "path"},
            "chdir": {"type": "path", "default": "/"},
            "environment": {"type": "dict", "default": {}},
            "state": {"type": "str", "choices": ["started", "stopped", "restarted", "reloaded"], "default": "started"},
            "timeout": {"type": "float", "default": 30},
            "force": {"type": "bool", "default": True},
            "ready_socket": {"type": "path"},
            "ready_file": {"type": "path"},
            "settle": {"type": "float", "default": 0.5},
        },
        required_if=[("state", "started", ["command"]), ("state", "restarted", ["command"])],
        supports_check_mode=True,
    )
    for option in ("pid_file", "log_file", "chdir", "ready_socket", "ready_file"):
        path = module.params[option]
        if path is not None and not Path(path).is_absolute():
            module.fail_json(msg=f"{option} {path!r} must be an absolute path")
    for option in ("timeout", "settle"):
        if module.params[option] < 0:
            module.fail_json(msg=f"{option} can't be negative, but is {module.params[option]:g}")
    if module.params["command"] is not None and not any(module.params["command"][:1]):
        module.fail_json(msg="command is empty; its first item must be a program")
    task = ProcessModule(module)
    if task.log_file == str(task.pid_file):
        module.fail_json(msg=f"log_file and pid_file can't be one file, {task.log_file}")
    try:
        result = task.run()
    except NotStarted as fault:
        module.fail_json(msg=f"process {module.params['name']} {fault}", log=fault.log, **task.facts)
    except ProcessFault as fault:
        module.fail_json(msg=f"process {module.params['name']}: {fault}", **task.facts)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
