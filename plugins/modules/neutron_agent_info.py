# Copyright: Contributors to brokerless.openstack
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What rpcdaemon knows of Neutron's agents."""

from __future__ import annotations

DOCUMENTATION = r"""
module: neutron_agent_info
short_description: What rpcdaemon knows of Neutron's agents
version_added: "0.1.0"
author:
  - Contributors to brokerless.openstack (@brokerless)
description:
  - Asks the rpcdaemon that leads for the states of Neutron's agents, how it came to know them, what they host, and for its alarms.
  - It fails if no rpcdaemon leads.
options:
  host:
    description:
      - Return only the agents of this host, by the name that Neutron calls it.
    type: str
  agent_type:
    description:
      - Return only agents of this type, such as V(L3 agent) or V(DHCP agent).
    type: str
extends_documentation_fragment:
  - brokerless.openstack.attributes
  - brokerless.openstack.attributes.reads_only
  - brokerless.openstack.rpcdaemon
attributes:
  check_mode:
    details:
      - It asks in check mode too. Where the program or the configuration file is missing because an earlier task has not made it in check mode,
        the task is skipped.
seealso:
  - module: brokerless.openstack.l3_agent_evacuate
"""

EXAMPLES = r"""
- name: Ask for the L3 agents
  brokerless.openstack.neutron_agent_info:
    agent_type: L3 agent
  register: l3

- name: Go on only if all are well
  ansible.builtin.assert:
    that:
      - l3.agents | rejectattr('state', 'eq', 'alive') | length == 0
      - l3.alarms | length == 0
"""

RETURN = r"""
leader:
  description: The replica that leads, and answered.
  returned: success
  type: str
  sample: control1
deaf:
  description: Why nobody can be judged now; empty if the agents are heard.
  returned: success
  type: str
  sample: ""
agents:
  description: The agents, by type and host.
  returned: success
  type: list
  elements: dict
  contains:
    agent:
      description: The id of the agent.
      type: str
      sample: 0c9b6f0e-4f3c-4f43-8f9e-5a4f4f6f2f11
    agent_type:
      description: Its type, as Neutron calls it.
      type: str
      sample: L3 agent
    host:
      description: Its host.
      type: str
      sample: net1
    zone:
      description: Its availability zone.
      type: str
      sample: nova
    state:
      description: One of V(unknown), V(alive), V(suspect), V(dead) and V(returning).
      type: str
      sample: alive
    reason:
      description: Why it is in that state.
      type: str
      sample: heard on the bus 3 s ago
    evacuate:
      description: Whether what it hosts is moved away as it is dead.
      type: bool
      sample: false
    held_back:
      description: Why it is not, although it is dead.
      type: str
      sample: ""
    wish:
      description: What the operator wants of its host, V(draining), V(cordoned) or nothing.
      type: str
      sample: ""
    hosted:
      description: How many routers or networks it hosts, as of the last look; null if rpcdaemon does not care for agents of its type.
      type: int
      sample: 20
alarms:
  description: What an operator should know.
  returned: success
  type: list
  elements: dict
  contains:
    level:
      description: V(critical) or V(warning).
      type: str
      sample: critical
    name:
      description: The name of the alarm, under which the documentation says what to do.
      type: str
      sample: guard
    subject:
      description: What it is about.
      type: str
      sample: L3 agents
    text:
      description: What is the matter.
      type: str
      sample: the mass-failure guard holds
under_way:
  description: The actions that are under way.
  returned: success
  type: list
  elements: str
  sample: []
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.brokerless.openstack.plugins.module_utils._rpcdaemon_command import (
    PROGRAM_OPTIONS,
    CommandFault,
    RpcdaemonCommand,
    agents_of,
)


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec={"host": {"type": "str"}, "agent_type": {"type": "str"}, **PROGRAM_OPTIONS}, supports_check_mode=True)
    command = RpcdaemonCommand(module)
    if problem := command.missing():
        result: dict[str, t.Any] = {"msg": f"can't ask rpcdaemon: {problem}"}
        module.exit_json(changed=False, skipped=True, **result) if module.check_mode else module.fail_json(**result)
    try:
        status = command.ask("status")
        agents = [
            agent
            for agent in agents_of(status)
            if module.params["host"] in {None, agent["host"]} and module.params["agent_type"] in {None, agent["agent_type"]}
        ]
        result = {
            "leader": status["instance"],
            "deaf": status["judgement"]["deaf"],
            "agents": agents,
            "alarms": status["alarms"],
            "under_way": status["under_way"],
        }
    except CommandFault as fault:
        module.fail_json(msg=str(fault), rc=fault.code)
    except (KeyError, TypeError) as error:
        module.fail_json(msg=f"what rpcdaemon answered lacks {error}; its version may be another one than this collection's")
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
