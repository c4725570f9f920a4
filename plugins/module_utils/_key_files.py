# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""How modules replace a file of keys.

This module util is private to the collection.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import typing as t
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule


class KeyTaskError(ValueError):
    """The keys can't be made what they should be; the message names the file or the host, and the fault, in one line."""


def attributes_of(module: AnsibleModule, path: Path) -> dict[str, t.Any]:
    """Return the owner, group, mode and so on that the parameters ask for, for the file at `path`."""
    attributes: dict[str, t.Any] = module.load_file_common_arguments(module.params, path=str(path))
    return attributes


def replace_file(module: AnsibleModule, path: Path, text: str) -> None:
    """Replace the file at `path`, in one step, by one with the attributes that the parameters ask for.

    It has them before it has its name, so that not for a moment more people can read it. The old file's owner and group stay if the parameters
    say nothing of them. Raises `OSError`.
    """
    # A name that begins with a dot is not taken for a host's file by a receiver that looks meanwhile.
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        with contextlib.suppress(FileNotFoundError, PermissionError):
            old = path.stat()
            os.chown(temporary, old.st_uid, old.st_gid)
        module.set_fs_attributes_if_different({**attributes_of(module, path), "path": temporary}, False)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
