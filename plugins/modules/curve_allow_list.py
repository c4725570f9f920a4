# Copyright: Contributors to brokerless.openstack
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write the public keys of the hosts that may connect to a receiver."""

from __future__ import annotations

DOCUMENTATION = r"""
module: curve_allow_list
short_description: Write the public keys of the hosts that may connect
version_added: "0.1.0"
author:
  - Contributors to brokerless.openstack (@brokerless)
description:
  - Writes one file for each host, C(HOST.pub) with one public key on each line, into the directory that is a receiver's allow-list.
  - Files of hosts that are not listed are removed, and their receivers can't connect any more. Hidden files and those with another suffix stay.
  - Receivers watch the directory and take changes over without a restart.
options:
  path:
    description:
      - The directory, as an absolute path. It must exist.
      - This is the receivers' option C(rpc_zmq_curve_hosts_dir).
    type: path
    required: true
  hosts:
    description:
      - The hosts whose keys are known.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description:
          - What the host calls itself, its C(rpc_zmq_host).
        type: str
        required: true
      public_keys:
        description:
          - The public keys that are accepted from it, the one in use first, as M(brokerless.openstack.curve_keypair) returns them.
        type: list
        elements: str
        required: true
      pending:
        description:
          - Whether a key is missing because check mode does not make it. Only check mode accepts that, and predicts that the file changes.
        type: bool
        default: false
  keep:
    description:
      - Hosts whose keys are not known in this run, as they are outside C(--limit) or can't be reached. Their files stay as they are.
    type: list
    elements: str
    default: []
  mode:
    description:
      - The permissions of the files.
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
    details:
      - A file that holds the same keys in the same order, with other comments, is left alone.
seealso:
  - module: brokerless.openstack.curve_keypair
"""

EXAMPLES = r"""
- name: Two hosts may connect, and a third one if it could before
  brokerless.openstack.curve_allow_list:
    path: /etc/brokerless/curve_hosts
    group: brokerless
    mode: "0640"
    hosts:
      - name: o1p409
        public_keys: ["Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID"]
      - name: c1p509
        public_keys: ["rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7"]
    keep: [c2p509]
"""

RETURN = r"""
path:
  description: The directory.
  returned: success
  type: str
  sample: /etc/brokerless/curve_hosts
written:
  description: Hosts whose files were written.
  returned: success
  type: list
  elements: str
  sample: [c1p509, o1p409]
removed:
  description: Hosts whose files were removed.
  returned: success
  type: list
  elements: str
  sample: []
kept:
  description: Hosts of O(keep) whose files stay as they are.
  returned: success
  type: list
  elements: str
  sample: [c2p509]
missing:
  description: Hosts of O(keep) that have no file and so can't connect. A warning says so, too.
  returned: success
  type: list
  elements: str
  sample: []
fingerprint:
  description: The same text as C(curve.fingerprint) in C(brokerless --json status) once the receiver has read the list.
  returned: success, not in check mode
  type: str
  sample: 3f0c9a1d2b4e5f60
"""

import typing as t
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.brokerless.openstack.plugins.module_utils._key_files import KeyTaskError, attributes_of, replace_file
from ansible_collections.brokerless.openstack.plugins.module_utils.brokerless.rpc.receiver.keys import (
    PUBLIC_SUFFIX,
    KeyFileError,
    key_fault,
    parse_public_keys,
    public_key_files,
    read_allow_list,
)
from ansible_collections.brokerless.openstack.plugins.module_utils.brokerless.rpc.topics import TopicError, check_host


def checked_hosts(hosts: list[dict[str, t.Any]], check_mode: bool) -> dict[str, dict[str, t.Any]]:
    """Return the hosts by their names. Raises `KeyTaskError` for one without keys, twice there, or with another one's key."""
    found: dict[str, dict[str, t.Any]] = {}
    owners: dict[str, str] = {}
    for host in hosts:
        name = host["name"]
        try:
            check_host(name)
        except TopicError as error:
            raise KeyTaskError(str(error)) from error
        if name in found:
            raise KeyTaskError(f"host {name!r} is listed more than once")
        if host["pending"] and not check_mode:
            raise KeyTaskError(f"host {name!r} has a pending key, which only check mode accepts")
        if not host["public_keys"] and not host["pending"]:
            raise KeyTaskError(f"host {name!r} has no public key")
        for key in host["public_keys"]:
            fault = key_fault(key)
            if fault:
                raise KeyTaskError(f"host {name!r}: public key {key!r}: {fault}")
            if key in owners:
                raise KeyTaskError(f"host {name!r}: key {key} is there twice, or host {owners[key]!r} has it too; each host has a key of its own")
            owners[key] = name
        found[name] = host
    return found


def old_files(directory: Path, check_mode: bool) -> dict[str, Path]:
    """Return the files that there are, by host. Raises `KeyTaskError` and `KeyFileError`."""
    if not directory.is_dir():
        if check_mode and not directory.exists():
            return {}
        raise KeyTaskError(f"{directory} is no directory; make it first")
    return {path.name.removesuffix(PUBLIC_SUFFIX): path for path in public_key_files(directory)}


def keys_in(path: Path) -> tuple[str, ...]:
    """Return the keys in a file, none if it can't be read as such: it is to be replaced then."""
    try:
        return parse_public_keys(path.read_text(encoding="utf-8"), str(path))
    except (KeyFileError, OSError, UnicodeDecodeError):
        return ()


def text_of(path: Path) -> str:
    """Return the text of a file for people to read."""
    try:
        return path.read_text(encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        return f"(can't be read: {error.strerror})\n"


def run(module: AnsibleModule) -> dict[str, t.Any]:
    """Make the allow-list what it should be and return the module's result. Raises `KeyTaskError`, `KeyFileError` and `OSError`."""
    directory = Path(module.params["path"])
    if not directory.is_absolute():
        raise KeyTaskError(f"path {module.params['path']!r} must be absolute")
    hosts = checked_hosts(module.params["hosts"], module.check_mode)
    keep = set(module.params["keep"]) - set(hosts)
    old = old_files(directory, module.check_mode)
    diff: list[dict[str, t.Any]] = []
    written = []
    changed = False
    for name, host in sorted(hosts.items()):
        path = directory / f"{name}{PUBLIC_SUFFIX}"
        if name not in old or host["pending"] or keys_in(path) != tuple(host["public_keys"]):
            written.append(name)
            text = "".join(f"{key}\n" for key in host["public_keys"])
            after = text + ("# (and a key that the run makes)\n" if host["pending"] else "")
            diff.append({"before_header": str(path), "after_header": str(path), "before": text_of(path) if name in old else "", "after": after})
            if not module.check_mode:
                replace_file(module, path, text)
        elif module.set_fs_attributes_if_different(attributes_of(module, path), False):
            changed = True
            diff.append({"before_header": f"{path} (file attributes)", "before": "other\n", "after": "as asked for\n"})
    removed = sorted(old.keys() - hosts.keys() - keep)
    for name in removed:
        diff.append({"before_header": str(old[name]), "after_header": str(old[name]), "before": text_of(old[name]), "after": ""})
        if not module.check_mode:
            old[name].unlink()
    missing = sorted(keep - old.keys())
    if missing:
        module.warn(f"{directory} has no public key of {', '.join(missing)}, and this run does not know it: they can't connect until one does")
    return {
        "path": str(directory),
        "changed": changed or bool(written or removed),
        "written": written,
        "removed": removed,
        "kept": sorted(keep & old.keys()),
        "missing": missing,
        "diff": diff,
        **({} if module.check_mode else {"fingerprint": read_allow_list(directory).fingerprint}),
    }


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "hosts": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "name": {"type": "str", "required": True},
                    "public_keys": {"type": "list", "elements": "str", "required": True, "no_log": False},
                    "pending": {"type": "bool", "default": False},
                },
            },
            "keep": {"type": "list", "elements": "str", "default": []},
            "mode": {"type": "raw", "default": "0644"},
        },
        add_file_common_args=True,
        supports_check_mode=True,
    )
    try:
        result = run(module)
    except (KeyTaskError, KeyFileError) as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(msg=f"the allow-list {module.params['path']} can't be written: {error}")
    module.exit_json(**result)


if __name__ == "__main__":
    main()
