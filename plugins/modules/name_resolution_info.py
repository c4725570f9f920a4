# Copyright: Contributors to brokerless.openstack
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Resolve names as the programs of a host do."""

from __future__ import annotations

DOCUMENTATION = r"""
module: name_resolution_info
short_description: Resolve names as the programs of a host do
version_added: "0.1.0"
author:
  - Contributors to brokerless.openstack (@brokerless)
description:
  - Receivers connect to the bare names of the ring, so that each host must resolve all of them. This tells which a host resolves, and to what.
  - Names are resolved by the system's resolver, with all that it goes by, C(/etc/hosts) and search domains among it.
  - A name that is not resolved is no failure of the module; RV(faults) tells.
options:
  names:
    description:
      - The names.
    type: list
    elements: str
    required: true
  own_names:
    description:
      - Those among O(names) that mean the host itself, which may have an address of the loopback interface.
    type: list
    elements: str
    default: []
extends_documentation_fragment:
  - brokerless.openstack.attributes
  - brokerless.openstack.attributes.reads_only
"""

EXAMPLES = r"""
- name: Resolve the hosts of the ring
  brokerless.openstack.name_resolution_info:
    names: "{{ groups.all | map('extract', hostvars, 'inventory_hostname_short') }}"
    own_names: ["{{ inventory_hostname_short }}"]
  register: names
  failed_when: names.faults | length > 0
"""

RETURN = r"""
addresses:
  description: The addresses of each name, none if it was not resolved.
  returned: always
  type: dict
  sample:
    compute1:
      - 192.168.2.1
nameservers:
  description: The nameservers that C(/etc/resolv.conf) names, for people who look for the cause of a fault.
  returned: always
  type: list
  elements: str
  sample:
    - 192.168.1.1
faults:
  description: What is wrong, a line for each name.
  returned: always
  type: list
  elements: str
  sample:
    - "compute2: Name or service not known"
"""

import ipaddress
import socket
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

RESOLV_CONF = Path("/etc/resolv.conf")


def addresses_of(name: str) -> tuple[list[str], str]:
    """Return the addresses of a name, and why there are none."""
    try:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError) as error:
        return [], str(error.args[1] if isinstance(error, socket.gaierror) else error)
    return sorted({str(entry[4][0]) for entry in found}), ""


def fault_of(name: str, addresses: list[str], why_none: str, is_own: bool) -> str:
    """Return what is wrong with what a name was resolved to, or nothing."""
    if not addresses:
        return f"{name}: {why_none}"
    loopback = [address for address in addresses if ipaddress.ip_address(address.partition("%")[0]).is_loopback]
    if loopback and not is_own:
        return f"{name}: {', '.join(loopback)}, which is this host itself"
    return ""


def nameservers(text: str) -> list[str]:
    """Return the nameservers that a resolver's file names."""
    return [words[1] for words in map(str.split, text.splitlines()) if len(words) > 1 and words[0] == "nameserver"]


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "names": {"type": "list", "elements": "str", "required": True},
            "own_names": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )
    found = {name: addresses_of(name) for name in module.params["names"]}
    faults = [fault_of(name, *result, name in module.params["own_names"]) for name, result in found.items()]
    text = RESOLV_CONF.read_text(encoding="utf-8", errors="replace") if RESOLV_CONF.exists() else ""
    module.exit_json(
        changed=False,
        addresses={name: addresses for name, (addresses, _why_none) in found.items()},
        nameservers=nameservers(text),
        faults=[fault for fault in faults if fault],
    )


if __name__ == "__main__":
    main()
