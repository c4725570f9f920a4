# Copyright: Contributors to brokerless.openstack
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write the MatchMaker's ring file."""

from __future__ import annotations

DOCUMENTATION = r"""
module: matchmaker_ring
short_description: Write the MatchMaker's ring file from the inventory
version_added: "0.1.0"
author:
  - Contributors to brokerless.openstack (@brokerless)
description:
  - >-
    Writes the JSON file that tells the MatchMakers C(ring) and C(fanout-ring) which hosts serve which base topic, as in
    C({"scheduler": ["o1p409", "o2p409"]}).
  - The hosts of a topic come from groups of the inventory, from a list, or both. They stand in the order of the inventory, which is the
    order of the round robin. A host that is in two groups of one topic is written once.
  - The whole inventory counts, whatever C(--limit) says, so that a run on one host does not shrink the ring.
  - Topics are listed in O(topics), or under the names of Nova's topic flags in O(flag_groups) and O(flag_hosts).
  - Receivers watch the file and take a new one over without a restart.
options:
  path:
    description:
      - The ring file, which O(path) must have as an absolute path. Its directory must exist.
      - If O(path) is a symbolic link, the file that it points to is written.
      - This is the receivers' option C(rpc_zmq_matchmaker_ringfile), whose default is V(/etc/nova/matchmaker_ring.json).
    type: path
    required: true
  topics:
    description:
      - The topics of the ring and who serves them. Each key is a base topic, or a glob of them such as V(q-agent-notifier-*).
      - Each value is a mapping with C(groups) (a list of groups of the inventory), C(hosts) (a list of hosts), or both.
      - A host under C(hosts) that is in the inventory is named as O(names) says. One that is not is written as it is listed,
        without its domain if O(names=short).
      - A group that does not exist or that has no hosts is an error.
    type: dict
    default: {}
  flag_groups:
    description:
      - >-
        Groups of the inventory by the name of a topic flag of Nova, as in V({compute_topic: [compute]}). The B(value) of the flag
        becomes the topic; see O(topic_flags).
    type: dict
    default: {}
  flag_hosts:
    description:
      - Hosts by the name of a topic flag of Nova, besides those of O(flag_groups). They are named as under O(topics).
    type: dict
    default: {}
  topic_flags:
    description:
      - The values of Nova's topic flags, by the flags' names.
      - Flags that are not listed have their defaults, V(compute_topic=compute), V(console_topic=console), V(scheduler_topic=scheduler),
        V(volume_topic=volume), V(network_topic=network) and V(vsa_topic=vsa). Other flags, such as C(cert_topic), can be added.
      - A flag that has neither groups nor hosts is left out of the ring.
      - Two flags of the ring with the same value are an error, and so is one whose value is listed in O(topics) too. List the hosts
        of both in one place.
    type: dict
    default: {}
  names:
    description:
      - What the ring calls a host of the inventory. It must be the C(rpc_zmq_host) of the host, and it must resolve on the others.
      - V(short) is the name in the inventory up to its first dot, as the deployment guide asks for.
      - V(fqdn) is the name in the inventory if it has a domain, else the host's fact C(ansible_facts.fqdn), which must have been gathered.
      - V(variable) is the value of the host's variable O(name_variable).
      - Two hosts that get the same name are an error, and so is an address that would have to be shortened.
    type: str
    choices:
      - short
      - fqdn
      - variable
    default: short
  name_variable:
    description:
      - The host variable that holds what a host calls itself.
      - With O(names=variable) each host must define it. With the other choices a host may define it, but then it must say the same;
        a host that calls itself something else would never be found under its name in the ring.
    type: str
    default: rpc_zmq_host
  backup:
    description:
      - Keep a copy of the old file, with the time in its name, when the file changes.
    type: bool
    default: false
extends_documentation_fragment:
  - ansible.builtin.files
  - brokerless.openstack.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
    details:
      - The difference is that of the JSON text.
  idempotent:
    support: full
    details:
      - A file that says the same in another layout, or with its topics in another order, is left alone.
notes:
  - An existing file that is not a ring is replaced. A warning says what was wrong with it, and RV(previous_error) too.
  - The file is replaced in one step, so that a receiver never reads half of it.
seealso:
  - module: brokerless.openstack.matchmaker_ring_info
  - plugin: brokerless.openstack.ring
    plugin_type: filter
"""

EXAMPLES = r"""
- name: The ring of a small cloud
  brokerless.openstack.matchmaker_ring:
    path: /etc/nova/matchmaker_ring.json
    mode: "0644"
    topics:
      scheduler:
        groups: [control]
      compute:
        groups: [compute]
      network:
        groups: [network]
        hosts: [o3p409]

- name: The same by Nova's topic flags, one of which has another value than its default
  brokerless.openstack.matchmaker_ring:
    path: /etc/nova/matchmaker_ring.json
    mode: "0644"
    topic_flags:
      compute_topic: compute-cell1
    flag_groups:
      scheduler_topic: [control]
      compute_topic: [compute]
    flag_hosts:
      network_topic: [o3p409, o4p409]

- name: Hosts that go by what they call themselves, with a copy of the old ring
  brokerless.openstack.matchmaker_ring:
    path: /etc/nova/matchmaker_ring.json
    owner: root
    group: nova
    mode: "0640"
    names: variable
    name_variable: rpc_zmq_host
    backup: true
    topics:
      compute:
        groups: [compute]
"""

RETURN = r"""
ring:
  description: The ring, a mapping of each topic to its hosts.
  returned: success
  type: dict
  sample:
    scheduler:
      - o1p409
      - o2p409
topics:
  description: The topics of the ring, sorted.
  returned: success
  type: list
  elements: str
  sample:
    - compute
    - scheduler
path:
  description: The ring file.
  returned: success
  type: str
  sample: /etc/nova/matchmaker_ring.json
backup_file:
  description: The copy of the old file.
  returned: changed and O(backup=true)
  type: str
  sample: /etc/nova/matchmaker_ring.json.2211.2026-11-21@11:30:12~
previous_error:
  description: What was wrong with the file that has been replaced.
  returned: if the old file was not a ring
  type: str
  sample: "ring file /etc/nova/matchmaker_ring.json: key 'scheduler': its array of hosts is empty"
"""

import os
import tempfile
import typing as t
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.brokerless.openstack.plugins.module_utils._ring_from_inventory import (
    NAME_VARIABLE,
    NAMES,
    InventoryError,
    Naming,
    joined,
    members_of_flags,
    members_of_topics,
    ring_from_inventory,
)
from ansible_collections.brokerless.openstack.plugins.module_utils.brokerless.rpc.matchmaker.ring_file import (
    MAX_RING_BYTES,
    Ring,
    RingError,
    read_ring,
)


def wanted_ring(params: dict[str, t.Any]) -> Ring:
    """Return the ring that the parameters ask for. Their groups have become hosts already, on the controller. Raises `InventoryError`."""
    members = joined(members_of_topics(params["topics"]), members_of_flags(params["flag_groups"], params["flag_hosts"], params["topic_flags"]))
    for topic, who in members.items():
        if who.groups:
            raise InventoryError(
                f"topic {topic!r}: groups are looked up by the action plugin of the same name, which did not run; call the module in a task"
            )
    return ring_from_inventory(members, {}, Naming(names="fqdn"))


def old_text(path: Path) -> str:
    """Return the text of the file at `path` for people to read, empty if there is none."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_RING_BYTES + 1)
    except FileNotFoundError:
        return ""
    except OSError as error:
        return f"(can't be read: {error.strerror})\n"
    if len(content) > MAX_RING_BYTES:
        return "(too big to be shown)\n"
    return content.decode("utf-8", errors="backslashreplace")


def write(module: AnsibleModule, path: Path, text: str) -> None:
    """Replace the file at `path` in one step. Raises `OSError`, and leaves nothing behind, if there is no room or no right to write beside it."""
    unsafe = module.params["unsafe_writes"]
    descriptor, temporary = tempfile.mkstemp(prefix=".ansible_tmp", dir=module.tmpdir if unsafe else path.parent)
    module.add_cleanup_file(temporary)
    os.close(descriptor)
    Path(temporary).write_text(text, encoding="utf-8")
    module.atomic_move(temporary, str(path), unsafe_writes=unsafe)


def run(module: AnsibleModule) -> dict[str, t.Any]:
    """Make the ring file what it should be and return the module's result. Raises `InventoryError` and `OSError`."""
    ring = wanted_ring(module.params)
    path = module.params["path"]
    if not Path(path).is_absolute():
        raise InventoryError(f"path {path!r} must be absolute")
    file_path = Path(path).resolve()
    existed = file_path.exists()
    if existed and not file_path.is_file():
        raise InventoryError(f"{path} is {'a directory' if file_path.is_dir() else 'no regular file'}, so no ring can be written there")
    result: dict[str, t.Any] = {"path": path, "ring": {key: list(hosts) for key, hosts in ring.topics.items()}, "topics": sorted(ring.topics)}

    same = False
    if existed:
        try:
            same = read_ring(str(file_path)) == ring
        except RingError as error:
            result["previous_error"] = str(error)
            module.warn(f"{error}; it is replaced")
    before = old_text(file_path)
    result["diff"] = [{"before_header": path, "after_header": path, "before": before, "after": before if same else ring.to_json()}]
    if not same and not module.check_mode:
        if not file_path.parent.is_dir():
            raise InventoryError(f"directory {file_path.parent} of ring file {path} does not exist; make it first")
        if existed and module.params["backup"]:
            result["backup_file"] = module.backup_local(str(file_path))
        write(module, file_path, ring.to_json())
    changed = not same
    if existed or not module.check_mode:
        attributes_diff: dict[str, t.Any] | None = {} if existed else None
        attributes = module.load_file_common_arguments(module.params, path=str(file_path))
        changed = module.set_fs_attributes_if_different(attributes, changed, diff=attributes_diff)
        if attributes_diff:
            header = f"{path} (file attributes)"
            result["diff"].append({"before_header": header, "after_header": header, **attributes_diff})
    return {**result, "changed": changed}


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "topics": {"type": "dict", "default": {}},
            "flag_groups": {"type": "dict", "default": {}},
            "flag_hosts": {"type": "dict", "default": {}},
            "topic_flags": {"type": "dict", "default": {}},
            "names": {"type": "str", "choices": list(NAMES), "default": "short"},
            "name_variable": {"type": "str", "default": NAME_VARIABLE},
            "backup": {"type": "bool", "default": False},
        },
        add_file_common_args=True,
        supports_check_mode=True,
    )
    try:
        result = run(module)
    except InventoryError as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(msg=f"ring file {module.params['path']} can't be written: {error.strerror or error}")
    module.exit_json(**result)


if __name__ == "__main__":
    main()
