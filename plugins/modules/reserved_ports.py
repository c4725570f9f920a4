# Copyright: Contributors to brokerless.openstack
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keep a range of ports from being used for outgoing connections."""

from __future__ import annotations

DOCUMENTATION = r"""
module: reserved_ports
short_description: Reserve ports, beside those that others reserved
version_added: "0.1.0"
author:
  - Contributors to brokerless.openstack (@brokerless)
description:
  - The kernel gives outgoing connections a port of its own choice, which may be one that a service wants to listen on after its next restart.
    C(net.ipv4.ip_local_reserved_ports) names the ports that it must not choose.
  - That setting is one list for all. This module adds to it now, and writes a file that makes it so at each boot.
  - Ports that others reserved, in files of their own or until the next boot, stay reserved. Ports that O(path) reserved before and does not any
    more are given free.
options:
  ports:
    description:
      - The ports, such as V(9500-9550) or V(53,9500-9550). Needed unless O(state=absent).
    type: str
  state:
    description:
      - V(absent) gives the ports free that O(path) reserved, and removes it.
    type: str
    choices: [present, absent]
    default: present
  path:
    description:
      - The file. Of the files in its directory its name should sort last, as the last one wins at boot.
    type: path
    default: /etc/sysctl.d/99-zz-brokerless.conf
  mode:
    description:
      - The permissions of the file.
    type: raw
    default: "0644"
extends_documentation_fragment:
  - ansible.builtin.files
  - brokerless.openstack.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
"""

EXAMPLES = r"""
- name: No outgoing connection takes a port of RPC
  brokerless.openstack.reserved_ports:
    ports: 9500-9550
"""

RETURN = r"""
reserved:
  description: All ports that are reserved now, also by others.
  returned: success
  type: str
  sample: 8080,9500-9550
others:
  description: Those of them that others reserved in files.
  returned: success
  type: str
  sample: "8080"
"""

import re
import typing as t
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.brokerless.openstack.plugins.module_utils._key_files import replace_file

KERNEL = Path("/proc/sys/net/ipv4/ip_local_reserved_ports")
FOLDERS = tuple(Path(name) for name in ("/etc/sysctl.d", "/run/sysctl.d", "/usr/local/lib/sysctl.d", "/usr/lib/sysctl.d"))
EXTRA_FILE = Path("/etc/sysctl.conf")
SETTING = re.compile(r"\s*-?\s*net[./]ipv4[./]ip_local_reserved_ports\s*=(.*)")
OURS = "# reserved by brokerless.openstack: "
HIGHEST = 65535


class PortsError(ValueError):
    """The text names no ports; the message tells."""


def parse_ports(text: str) -> frozenset[int]:
    """Return the ports in a text such as `53,9500-9550`; an empty one has none. Raises `PortsError`."""
    found: set[int] = set()
    for part in filter(None, (part.strip() for part in text.split(","))):
        match = re.fullmatch(r"(\d{1,5})(?:\s*-\s*(\d{1,5}))?", part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
        if not 1 <= first <= last <= HIGHEST:
            raise PortsError(f"{part!r} is no port and no range of ports; ports are 1 to {HIGHEST}, ranges FIRST-LAST")
        found.update(range(first, last + 1))
    return frozenset(found)


def show_ports(ports: frozenset[int]) -> str:
    """Return the text that names these ports in the fewest words."""
    starts = sorted(port for port in ports if port - 1 not in ports)
    ends = sorted(port for port in ports if port + 1 not in ports)
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in zip(starts, ends, strict=True))


def setting_in(text: str) -> frozenset[int]:
    """Return the ports that a file for sysctl reserves: its last setting counts, and one that can't be read reserves none."""
    values = [match[1] for match in map(SETTING.match, text.splitlines()) if match]
    try:
        return parse_ports(values[-1]) if values else frozenset()
    except PortsError:
        return frozenset()


def ours_in(text: str) -> frozenset[int]:
    """Return the ports that this module's file says are its own."""
    lines = [line.removeprefix(OURS) for line in text.splitlines() if line.startswith(OURS)]
    return parse_ports(lines[-1]) if lines else frozenset()


def reserved_elsewhere(path: Path) -> frozenset[int]:
    """Return what all files but `path` reserve."""
    files = [EXTRA_FILE, *(file for folder in FOLDERS for file in sorted(folder.glob("*.conf")))]
    return frozenset().union(*(setting_in(read(file)) for file in files if file.resolve() != path.resolve()))


def read(path: Path) -> str:
    """Return the text of a file, nothing if there is none."""
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""


def run(module: AnsibleModule) -> dict[str, t.Any]:
    """Make the file and the kernel's list what they should be, and return the module's result. Raises `PortsError` and `OSError`."""
    path = Path(module.params["path"])
    present = module.params["state"] == "present"
    wanted = parse_ports(module.params["ports"] or "") if present else frozenset()
    if present and not wanted:
        raise PortsError("ports names no port")
    before, now = read(path), parse_ports(KERNEL.read_text(encoding="utf-8").strip())
    others = reserved_elsewhere(path)
    reserved = (now - ours_in(before)) | others | wanted
    after = f"{OURS}{show_ports(wanted)}\nnet.ipv4.ip_local_reserved_ports = {show_ports(others | wanted)}\n" if present else ""
    if not module.check_mode:
        if after != before and present:
            replace_file(module, path, after)
        elif after != before:
            path.unlink()
        if reserved != now:
            KERNEL.write_text(f"{show_ports(reserved)}\n", encoding="utf-8")
    diff = [
        {"before_header": str(path), "after_header": str(path), "before": before, "after": after},
        {"before_header": str(KERNEL), "after_header": str(KERNEL), "before": f"{show_ports(now)}\n", "after": f"{show_ports(reserved)}\n"},
    ]
    return {
        "changed": after != before or reserved != now,
        "reserved": show_ports(reserved),
        "others": show_ports(others),
        "diff": [part for part in diff if part["before"] != part["after"]],
    }


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "ports": {"type": "str"},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "path": {"type": "path", "default": "/etc/sysctl.d/99-zz-brokerless.conf"},
            "mode": {"type": "raw", "default": "0644"},
        },
        add_file_common_args=True,
        required_if=[("state", "present", ("ports",))],
        supports_check_mode=True,
    )
    try:
        result = run(module)
    except PortsError as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(msg=f"can't reserve ports: {error}")
    module.exit_json(**result)


if __name__ == "__main__":
    main()
