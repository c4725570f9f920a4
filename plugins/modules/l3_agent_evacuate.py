# Copyright: Contributors to brokerless.openstack
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Take routers and networks off a host, and let it have some again."""

from __future__ import annotations

DOCUMENTATION = r"""
module: l3_agent_evacuate
short_description: Take routers and networks off a host, or use it again
version_added: "0.1.0"
author:
  - Contributors to brokerless.openstack (@brokerless)
description:
  - Has the rpcdaemon that leads drain a host, router after router, or use a host again that was drained. Where each goes is decided by the
    planner that decides when an agent dies.
  - A drain that was begun goes on until it is done, whatever becomes of the task or of the leader.
  - It concerns all agents of the host that rpcdaemon cares for, those of DHCP as well if its plugin is loaded.
options:
  host:
    description:
      - The host, by the name that Neutron calls it.
    type: str
    required: true
  state:
    description:
      - V(drained) moves everything off the host, and nothing to it from then on. The task ends when it is empty.
      - V(cordoned) leaves what is there where it is, and moves nothing to the host from then on.
      - V(used) ends both, and moves a drained host's share back to it.
    type: str
    choices:
      - drained
      - cordoned
      - used
    default: drained
  wait:
    description:
      - Whether to wait until a host that is drained is empty.
    type: bool
    default: true
  timeout:
    description:
      - How many seconds to wait for it. The drain goes on if it takes longer, but the task fails.
    type: float
    default: 3600
extends_documentation_fragment:
  - brokerless.openstack.attributes
  - brokerless.openstack.rpcdaemon
attributes:
  check_mode:
    support: full
    details:
      - It returns the plan. Where the program or the configuration file is missing because an earlier task has not made it in check mode, the task
        is skipped.
  diff_mode:
    support: full
  idempotent:
    support: full
    details:
      - Unless the host has got something meanwhile that has to be moved off it.
seealso:
  - module: brokerless.openstack.neutron_agent_info
"""

EXAMPLES = r"""
- name: Empty a network node before it is rebooted
  brokerless.openstack.l3_agent_evacuate:
    host: net1
  delegate_to: control1

- name: Show what that would move
  brokerless.openstack.l3_agent_evacuate:
    host: net1
  check_mode: true
  register: drain
  delegate_to: control1

- name: Use it again
  brokerless.openstack.l3_agent_evacuate:
    host: net1
    state: used
  delegate_to: control1
"""

RETURN = r"""
host:
  description: The host.
  returned: always
  type: str
  sample: net1
wish:
  description: What the host is to be after the task, V(draining), V(cordoned) or nothing.
  returned: success
  type: str
  sample: draining
hosted:
  description: How many routers and networks the host has, after the task or, in check mode, now. Null if the leader has not looked yet.
  returned: success
  type: int
  sample: 0
plan:
  description: What would be moved, with reasons, as C(rpcdaemon plan --json) has it.
  returned: in check mode
  type: dict
  sample:
    purpose: drain
    actions: []
    unplaced: []
unplaced:
  description: What can't leave the host, and why.
  returned: if there is such
  type: list
  elements: str
  sample:
    - "9f5a: no agent is left that could host it"
rc:
  description: The exit code of the program.
  returned: on failure, if the program ran
  type: int
  sample: 1
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.brokerless.openstack.plugins.module_utils._rpcdaemon_command import (
    PROGRAM_OPTIONS,
    CommandFault,
    RpcdaemonCommand,
    agents_of,
)

COMMANDS = {"drained": "drain", "cordoned": "cordon", "used": "undrain"}
WISHES = {"drained": "draining", "cordoned": "cordoned", "used": ""}


class Host(t.NamedTuple):
    """What rpcdaemon says of a host; `hosted` is None before its first look at the cloud."""

    wish: str
    hosted: int | None


def host_of(status: dict[str, t.Any], name: str) -> Host:
    """Return what `status` says of the host `name`. Raises `CommandFault` if Neutron has no agent there."""
    agents = [agent for agent in agents_of(status) if agent["host"] == name]
    if not agents:
        raise CommandFault(f"Neutron has no agent on host {name!r}", 0)
    return Host(agents[0]["wish"], sum(agent["hosted"] or 0 for agent in agents) if status["hosted"] else None)


def plan_lines(plan: dict[str, t.Any]) -> str:
    """Return a plan for the diff, a line for each action."""
    lines = []
    for action in plan["actions"]:
        ends = [f"{way} {action[way]['host']}" for way in ("from", "to") if action[way]]
        lines.append(" ".join([action["action"], action["name"] or action["id"], *ends]) + "\n")
    return "".join(lines + [f"stays: {each['name'] or each['id']}: {each['reason']}\n" for each in plan["unplaced"]])


def run(module: AnsibleModule, command: RpcdaemonCommand) -> dict[str, t.Any]:
    """Do what is asked for, and return the module's result. Raises `CommandFault`, or `KeyError` for an answer that lacks something."""
    host, state = module.params["host"], module.params["state"]
    before = host_of(command.ask("status"), host)
    waits = state == "drained" and module.params["wait"]
    changed = before.wish != WISHES[state] or (waits and before.hosted != 0)
    result: dict[str, t.Any] = {"host": host, "changed": changed, "wish": WISHES[state], "hosted": before.hosted}
    if module.check_mode:
        nothing: dict[str, t.Any] = {"purpose": COMMANDS[state], "actions": [], "unplaced": []}
        planned = command.ask(COMMANDS[state], host, "--dry-run")["plan"] if changed and state != "cordoned" else nothing
        return {**result, "plan": planned, "diff": {"prepared": plan_lines(planned)}}
    if changed:
        more = ["--timeout", f"{module.params['timeout']:g}"] if waits else ["--no-wait"] if state == "drained" else []
        command.ask(COMMANDS[state], host, *more)
        result["hosted"] = host_of(command.ask("status"), host).hosted
    return result


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "host": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["drained", "cordoned", "used"], "default": "drained"},
            "wait": {"type": "bool", "default": True},
            "timeout": {"type": "float", "default": 3600},
            **PROGRAM_OPTIONS,
        },
        supports_check_mode=True,
    )
    host, state = module.params["host"], module.params["state"]
    if module.params["timeout"] <= 0:
        module.fail_json(msg=f"timeout must be more than 0 seconds, not {module.params['timeout']:g}", host=host)
    command = RpcdaemonCommand(module)
    if problem := command.missing():
        result = {"host": host, "msg": f"host {host} can't be {state}: {problem}"}
        module.exit_json(changed=False, skipped=True, **result) if module.check_mode else module.fail_json(**result)
    try:
        result = run(module, command)
    except CommandFault as fault:
        stuck = fault.answer.get("unplaced")
        said = f"{len(stuck)} can't leave it: {'; '.join(stuck[:3])}" if stuck else str(fault)
        module.fail_json(msg=f"host {host} is not {state}: {said}", host=host, rc=fault.code, **({"unplaced": stuck} if stuck else {}))
    except (KeyError, TypeError) as error:
        module.fail_json(msg=f"what rpcdaemon answered lacks {error}; its version may be another one than this collection's", host=host)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
