# Copyright: Contributors to brokerless.openstack
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ping a topic through the receiver of the host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: rpc_ping
short_description: Ping a topic over RPC
version_added: "0.1.0"
author:
  - Contributors to brokerless.openstack (@brokerless)
description:
  - Asks whoever serves a topic for a sign of life, through the receiver of the host that the task runs on, and measures the time until it comes.
  - It is a real call, so it shows that the ring, the names of the hosts, the firewall and the receivers on both sides are right.
  - It fails if no answer comes.
options:
  topic:
    description:
      - The topic to ping. A bare topic (V(compute)) is answered by any one host, a directed topic (V(compute.machine1)) by that host, and a
        fanout (V(fanout~compute)) by all hosts.
    type: str
    required: true
  timeout:
    description:
      - How many seconds to wait for the answer.
    type: float
    default: 10
  retries:
    description:
      - How many times to try again when no answer came, for services that are still starting.
    type: int
    default: 0
  delay:
    description:
      - How many seconds to wait before each new try.
    type: float
    default: 1
  executable:
    description:
      - The runtime's program C(brokerless) on the host. The role P(brokerless.openstack.runtime#role) puts it there.
    type: path
    default: /opt/brokerless/current/bin/brokerless
  config_file:
    description:
      - The configuration file of the host. Without it the program reads V(/etc/brokerless/brokerless.conf) if that exists.
    type: path
extends_documentation_fragment:
  - brokerless.openstack.attributes
  - brokerless.openstack.attributes.reads_only
attributes:
  check_mode:
    details:
      - It pings in check mode too. Where the program or the configuration file is missing because an earlier task has not made it in check mode,
        the task is skipped.
notes:
  - A task that starts a service does not start it in check mode, so that this one fails there. Use C(when) with C(not ansible_check_mode) then.
seealso:
  - module: brokerless.openstack.matchmaker_ring
"""

EXAMPLES = r"""
- name: Any compute host answers
  brokerless.openstack.rpc_ping:
    topic: compute

- name: Each host reaches each compute host
  brokerless.openstack.rpc_ping:
    topic: "compute.{{ item }}"
    timeout: 5
    retries: 3
  loop: "{{ groups['compute'] }}"
"""

RETURN = r"""
topic:
  description: The topic that was pinged.
  returned: always
  type: str
  sample: compute
host:
  description: The host that answered, the first of them for a fanout.
  returned: success
  type: str
  sample: compute1
round_trip_ms:
  description: Milliseconds until the answer of RV(host) came.
  returned: success
  type: float
  sample: 1.8
answers:
  description: All answers. There is more than one for a fanout only.
  returned: success, or a fanout that some hosts did not answer
  type: list
  elements: dict
  contains:
    host:
      description: The host that answered.
      type: str
      sample: compute1
    round_trip_ms:
      description: Milliseconds until the answer came.
      type: float
      sample: 1.8
    pid:
      description: The process that answered.
      type: int
      sample: 4711
silent:
  description: The hosts of a fanout that did not answer, and why.
  returned: if there are any
  type: list
  elements: dict
  contains:
    host:
      description: The host that did not answer.
      type: str
      sample: compute2
    reason:
      description: What is known about the cause.
      type: str
      sample: "no answer from topic 'compute.compute2' within 5 seconds"
attempts:
  description: How many pings were sent.
  returned: unless skipped
  type: int
  sample: 1
rc:
  description: The exit code of the program.
  returned: on failure, if the program ran
  type: int
  sample: 1
"""

import json
import os
import time
import typing as t
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.brokerless.openstack.plugins.module_utils.brokerless.rpc.topics import TopicError, parse_topic


class PingFault(Exception):
    """What the program said can't be understood; the message tells."""


def ping_command(executable: str, config_file: str | None, topic: str, timeout: float) -> list[str]:
    """Return the command that pings `topic`."""
    files = ["--config-file", config_file] if config_file else []
    return [executable, "--json", *files, "ping", topic, "--timeout", f"{timeout:g}"]


def read_answers(output: str) -> dict[str, t.Any]:
    """Return who answered and who did not, from what the program wrote to its standard output. Raises `PingFault` if that can't be read."""
    try:
        said = json.loads(output)
        answers = [{**answer, "host": str(answer["host"]), "round_trip_ms": float(answer["round_trip_ms"])} for answer in said["answers"]]
        silent = [{"host": str(other["host"]), "reason": str(other["reason"])} for other in said.get("silent", [])]
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise PingFault(f"its answer can't be read: {output.strip()[:200]!r}") from error
    return {"answers": answers, **({"silent": silent} if silent else {})}


def last_line(text: str) -> str:
    """Return the last line of `text` that says anything."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""


def missing(executable: str, config_file: str | None) -> str:
    """Return what has to be there for a ping and is not, or nothing."""
    if not Path(executable).exists():
        return f"the program {executable} does not exist; the role brokerless.openstack.runtime installs it"
    if not os.access(executable, os.X_OK) or Path(executable).is_dir():
        return f"{executable} is no program that may be run"
    if config_file and not Path(config_file).exists():
        return f"the configuration file {config_file} does not exist"
    return ""


def run(module: AnsibleModule) -> dict[str, t.Any]:
    """Ping until an answer comes or the tries are used up, and return the module's result."""
    topic, executable, config_file = module.params["topic"], module.params["executable"], module.params["config_file"]
    problem = missing(executable, config_file)
    if problem:
        return {"topic": topic, "msg": f"can't ping topic {topic!r}: {problem}", "skipped" if module.check_mode else "failed": True}
    command = ping_command(executable, config_file, topic, module.params["timeout"])
    attempts = module.params["retries"] + 1
    code, output, fault = 0, "", ""
    for attempt in range(1, attempts + 1):
        if attempt > 1:
            time.sleep(module.params["delay"])
        code, output, errors = module.run_command(command, handle_exceptions=False)
        if code == 0:
            facts = read_answers(output)
            if not facts["answers"]:
                raise PingFault("it reports success, but no answer")
            first = facts["answers"][0]
            return {"topic": topic, "host": first["host"], "round_trip_ms": first["round_trip_ms"], "attempts": attempt, **facts}
        fault = last_line(errors) or f"{executable} ended with exit code {code} and said nothing"
    facts = read_answers(output) if output.strip() else {}
    return {"topic": topic, "failed": True, "msg": fault, "rc": code, "attempts": attempts, **facts}


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "topic": {"type": "str", "required": True},
            "timeout": {"type": "float", "default": 10},
            "retries": {"type": "int", "default": 0},
            "delay": {"type": "float", "default": 1},
            "executable": {"type": "path", "default": "/opt/brokerless/current/bin/brokerless"},
            "config_file": {"type": "path"},
        },
        supports_check_mode=True,
    )
    topic = module.params["topic"]
    try:
        parse_topic(topic)
    except TopicError as error:
        module.fail_json(msg=str(error), topic=topic)
    if module.params["timeout"] <= 0:
        module.fail_json(msg=f"timeout must be more than 0 seconds, not {module.params['timeout']:g}", topic=topic)
    for name in ("retries", "delay"):
        if module.params[name] < 0:
            module.fail_json(msg=f"{name} can't be negative, but is {module.params[name]:g}", topic=topic)
    try:
        result = run(module)
    except (PingFault, OSError) as error:
        module.fail_json(msg=f"can't ping topic {topic!r}: {module.params['executable']}: {error}", topic=topic)
    if result.get("failed"):
        module.fail_json(**result)
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
