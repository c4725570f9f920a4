# Copyright: Contributors to brokerless.openstack
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read and check a MatchMaker's ring file."""

from __future__ import annotations

DOCUMENTATION = r"""
module: matchmaker_ring_info
short_description: Read and check the MatchMaker's ring file
version_added: "0.1.0"
author:
  - Contributors to brokerless.openstack (@brokerless)
description:
  - Reads the ring file of a host, checks it as the host's receiver does, and returns what it says.
  - A file that is missing or that is not a ring is no failure of the module; RV(exists), RV(valid) and RV(error) tell.
options:
  path:
    description:
      - The ring file. It must be an absolute path.
    type: path
    required: true
  topic:
    description:
      - A base topic whose hosts to return in RV(topic_hosts), as the MatchMaker would find them.
    type: str
extends_documentation_fragment:
  - brokerless.openstack.attributes
  - brokerless.openstack.attributes.reads_only
seealso:
  - module: brokerless.openstack.matchmaker_ring
"""

EXAMPLES = r"""
- name: Read the ring
  brokerless.openstack.matchmaker_ring_info:
    path: /etc/nova/matchmaker_ring.json
    topic: scheduler
  register: ring

- name: Refuse to go on with a broken ring
  ansible.builtin.assert:
    that: ring.valid
    fail_msg: "{{ ring.error }}"
"""

RETURN = r"""
path:
  description: The ring file.
  returned: always
  type: str
  sample: /etc/nova/matchmaker_ring.json
exists:
  description: Whether there is a file of that name.
  returned: always
  type: bool
  sample: true
valid:
  description: Whether the file is a ring that a receiver would take.
  returned: always
  type: bool
  sample: true
error:
  description: What is wrong with the file, in one line, or empty.
  returned: always
  type: str
  sample: ""
ring:
  description: The hosts of each topic. Empty if the file is not a ring.
  returned: always
  type: dict
  sample:
    scheduler:
      - o1p409
      - o2p409
topics:
  description: The topics of the ring, sorted.
  returned: always
  type: list
  elements: str
  sample:
    - scheduler
hosts:
  description: Every host of the ring, sorted.
  returned: always
  type: list
  elements: str
  sample:
    - o1p409
    - o2p409
topic_hosts:
  description: The hosts of O(topic), in the order of the ring. Empty if the ring does not know the topic.
  returned: if O(topic) is given
  type: list
  elements: str
  sample:
    - o1p409
    - o2p409
topic_key:
  description: The key of the ring that decides about O(topic), which is O(topic) itself or the longest glob that matches it. Empty if there is none.
  returned: if O(topic) is given
  type: str
  sample: scheduler
"""

import os
import typing as t
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.brokerless.openstack.plugins.module_utils.brokerless.rpc.matchmaker.ring_file import Ring, RingError, read_ring
from ansible_collections.brokerless.openstack.plugins.module_utils.brokerless.rpc.topics import TopicError, check_topic


def ring_facts(path: str, topic: str | None) -> dict[str, t.Any]:
    """Return what the file at `path` says, and what it says about `topic`."""
    ring, error = Ring({}), ""
    try:
        ring = read_ring(path)
    except RingError as fault:
        error = str(fault)
    facts: dict[str, t.Any] = {
        "path": path,
        "exists": os.path.lexists(path),
        "valid": not error,
        "error": error,
        "ring": {key: list(hosts) for key, hosts in ring.topics.items()},
        "topics": sorted(ring.topics),
        "hosts": sorted(ring.hosts()),
    }
    if topic is not None:
        facts["topic_key"] = ring.matching_key(topic) or ""
        facts["topic_hosts"] = list(ring.hosts_of(topic))
    return facts


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={"path": {"type": "path", "required": True}, "topic": {"type": "str"}},
        supports_check_mode=True,
    )
    topic = module.params["topic"]
    if not Path(module.params["path"]).is_absolute():
        module.fail_json(msg=f"path {module.params['path']!r} must be absolute")
    try:
        if topic is not None:
            check_topic(topic)
    except TopicError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, **ring_facts(module.params["path"], topic))


if __name__ == "__main__":
    main()
