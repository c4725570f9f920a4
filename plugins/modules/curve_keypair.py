# Copyright: Contributors to brokerless.openstack
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make and rotate a host's own CURVE keys."""

from __future__ import annotations

DOCUMENTATION = r"""
module: curve_keypair
short_description: Make and rotate a host's own CURVE keys
version_added: "0.1.0"
author:
  - Contributors to brokerless.openstack (@brokerless)
description:
  - Makes the keys with which a receiver encrypts what it says to other hosts' receivers, and proves who it is.
  - The secret keys are made on the host and never leave it. Neither the result nor the difference has them.
  - Other hosts must accept the public keys that the module returns; M(brokerless.openstack.curve_allow_list) writes them.
  - A key is rotated in phases, O(state=prepared), O(state=rotated) and O(state=settled), so that old and new keys are accepted for a while and
    no message is lost. The playbook C(brokerless.openstack.rotate_keys) does all of them.
options:
  path:
    description:
      - The file with the keys, as an absolute path. Its directory must exist.
      - This is the receiver's option C(rpc_zmq_curve_secret_file).
    type: path
    required: true
  state:
    description:
      - V(present) makes keys if there are none.
      - V(prepared) makes the keys that come next, beside those in use, and nothing if it did so before. Other hosts must accept both from now on.
      - V(rotated) has the next keys take the place of those in use, if there are next ones. The old secret key is gone after that. The receiver
        must be restarted to use the new one.
      - V(settled) forgets the old public key, which other hosts then accept no longer.
    type: str
    choices:
      - present
      - prepared
      - rotated
      - settled
    default: present
  regenerate:
    description:
      - Make new keys whatever there is, also if the file can't be read. Only with O(state=present).
      - The old ones are accepted no longer, with no time in between; that is for keys that got into wrong hands.
    type: bool
    default: false
  executable:
    description:
      - The runtime's program C(brokerless) on the host, which makes keys. The role P(brokerless.openstack.runtime#role) puts it there.
    type: path
    default: /opt/brokerless/current/bin/brokerless
  mode:
    description:
      - The permissions of the file. Receivers refuse a file that others than its owner and readers of its group can get at.
    type: raw
    default: "0600"
extends_documentation_fragment:
  - ansible.builtin.files
  - brokerless.openstack.attributes
attributes:
  check_mode:
    support: full
    details:
      - A key that the run would make can't be known before. It is missing in RV(public_key) and RV(public_keys) then, and RV(pending) is true.
      - Neither the program nor the directory has to exist in check mode, as earlier tasks may be about to make them.
  diff_mode:
    support: full
    details:
      - The difference shows public keys only.
  idempotent:
    support: partial
    details:
      - Each O(state) is idempotent. O(regenerate=true) always makes new keys.
seealso:
  - module: brokerless.openstack.curve_allow_list
"""

EXAMPLES = r"""
- name: The keys of this host
  brokerless.openstack.curve_keypair:
    path: /etc/brokerless/curve.secret
    owner: brokerless
    group: brokerless
  register: keypair

- name: New keys at once, as the old ones were stolen
  brokerless.openstack.curve_keypair:
    path: /etc/brokerless/curve.secret
    regenerate: true
"""

RETURN = r"""
path:
  description: The file with the keys.
  returned: success
  type: str
  sample: /etc/brokerless/curve.secret
public_key:
  description: The public key in use.
  returned: if it is known; in check mode a key that the run would make is not
  type: str
  sample: "Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID"
public_keys:
  description: The public keys that other hosts must accept from this one, as far as they are known. The first is the one in use.
  returned: success
  type: list
  elements: str
  sample:
    - "Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID"
pending:
  description: Whether the run would make a key that is not in RV(public_keys), as it can't be known yet. Never true outside check mode.
  returned: success
  type: bool
  sample: false
"""

import typing as t
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.brokerless.openstack.plugins.module_utils._key_files import KeyTaskError, attributes_of, replace_file
from ansible_collections.brokerless.openstack.plugins.module_utils.brokerless.rpc.receiver.keys import (
    KeyFileError,
    KeyPair,
    OwnKeys,
    read_own_keys,
)


def needs_new_pair(state: str, regenerate: bool, old: OwnKeys | None) -> bool:
    """Whether a key pair has to be made."""
    return old is None or regenerate or (state == "prepared" and old.next is None)


def wanted_keys(state: str, regenerate: bool, old: OwnKeys | None, new_pair: t.Callable[[], KeyPair]) -> OwnKeys:
    """Return the keys that the file should hold."""
    if old is None or regenerate:
        return OwnKeys(new_pair())
    if state == "prepared":
        return old if old.next else old.prepared(new_pair())
    return {"present": old, "rotated": old.rotated(), "settled": old.settled()}[state]


def shown(keys: OwnKeys | None) -> str:
    """Return what the difference shows of keys."""
    if keys is None:
        return ""
    lines = [f"public = {keys.current.public}"]
    if keys.next:
        lines.append(f"next_public = {keys.next.public}")
    if keys.previous_public:
        lines.append(f"previous_public = {keys.previous_public}")
    return "".join(f"{line}\n" for line in lines)


def old_keys(path: Path, state: str, regenerate: bool, check_mode: bool) -> OwnKeys | None:
    """Return the keys that there are. Raises `KeyTaskError` and `KeyFileError` if they are no good."""
    if not path.is_symlink() and not path.exists():
        if state != "present" and not check_mode:
            raise KeyTaskError(f"key file {path} does not exist, so its keys can't be {state}; state=present makes some")
        return None
    try:
        return read_own_keys(path)
    except KeyFileError as error:
        if regenerate:
            return None
        raise KeyTaskError(f"{error}; regenerate=true makes new keys, which all other hosts must be told of") from error


def make_pair(module: AnsibleModule) -> KeyPair:
    """Have the runtime make a key pair. Raises `KeyTaskError`."""
    executable = module.params["executable"]
    if not Path(executable).exists():
        raise KeyTaskError(f"the program {executable}, which makes keys, does not exist; the role brokerless.openstack.runtime installs it")
    # Only a directory of this task's own has it, until the key file does.
    made = Path(module.tmpdir) / "curve.new"
    try:
        code, _output, errors = module.run_command([executable, "key", "new", str(made)])
        if code != 0:
            raise KeyTaskError(f"{executable} made no keys: {errors.strip() or f'exit code {code}'}")
        return read_own_keys(made).current
    finally:
        made.unlink(missing_ok=True)


def run(module: AnsibleModule) -> dict[str, t.Any]:
    """Make the keys what they should be and return the module's result. Raises `KeyTaskError`, `KeyFileError` and `OSError`."""
    params = module.params
    state, regenerate = params["state"], params["regenerate"]
    if not Path(params["path"]).is_absolute():
        raise KeyTaskError(f"path {params['path']!r} must be absolute")
    if regenerate and state != "present":
        raise KeyTaskError(f"regenerate=true makes new keys at once, and does not go with state={state}")
    path = Path(params["path"]).resolve()
    old = old_keys(path, state, regenerate, module.check_mode)
    before = shown(old)
    if module.check_mode and needs_new_pair(state, regenerate, old):
        kept = old if old is not None and not regenerate else None
        known = list(kept.accepted) if kept else []
        after = f"{shown(kept)}{'next_public' if kept else 'public'} = (made in the run)\n"
        result = {"public_keys": known, "pending": True, "changed": True, **({"public_key": known[0]} if known else {})}
    else:
        keys = wanted_keys(state, regenerate, old, lambda: make_pair(module))
        after = shown(keys)
        changed = keys != old
        if changed and not module.check_mode:
            if not path.parent.is_dir():
                raise KeyTaskError(f"directory {path.parent} of key file {path} does not exist; make it first")
            replace_file(module, path, keys.to_text())
        result = {"public_keys": list(keys.accepted), "public_key": keys.current.public, "pending": False, "changed": changed}
    diff: list[dict[str, t.Any]] = [{"before_header": params["path"], "after_header": params["path"], "before": before, "after": after}]
    if path.exists():
        attributes_diff: dict[str, t.Any] = {}
        result["changed"] = module.set_fs_attributes_if_different(attributes_of(module, path), result["changed"], diff=attributes_diff)
        if attributes_diff:
            header = f"{params['path']} (file attributes)"
            diff.append({"before_header": header, "after_header": header, **attributes_diff})
    return {**result, "path": params["path"], "diff": diff}


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "state": {"type": "str", "choices": ["present", "prepared", "rotated", "settled"], "default": "present"},
            "regenerate": {"type": "bool", "default": False},
            "executable": {"type": "path", "default": "/opt/brokerless/current/bin/brokerless"},
            "mode": {"type": "raw", "default": "0600"},
        },
        add_file_common_args=True,
        supports_check_mode=True,
    )
    try:
        result = run(module)
    except (KeyTaskError, KeyFileError) as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(msg=f"key file {module.params['path']} can't be written: {error}")
    module.exit_json(**result)


if __name__ == "__main__":
    main()
