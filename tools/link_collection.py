# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""Make the checkout importable as the collection `brokerless.openstack`, wherever it lies: `python tools/link_collection.py`.

Ansible and Python look for a collection in `<path>/ansible_collections/<namespace>/<name>`. This makes such a folder below `collections/`
that holds a relative link to each visible entry of the checkout, and takes away links to entries that are gone. A link to the checkout
as a whole would make `collections/` contain itself.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
COLLECTION = ("ansible_collections", "brokerless", "openstack")
NOT_LINKED = frozenset({"collections", "dist"})


def wanted_links(checkout: Path, tree: Path) -> dict[str, str]:
    """Return the relative target of each link that belongs into `tree`, by the link's name."""
    up = os.path.relpath(checkout, tree)
    names = sorted(entry.name for entry in checkout.iterdir())
    return {name: f"{up}/{name}" for name in names if not name.startswith(".") and name not in NOT_LINKED}


def replace_link(link: Path, target: str) -> None:
    """Make `link` point to `target` in one step, so that whoever reads the tree meanwhile always finds it."""
    fresh = link.with_name(f".{link.name}.{os.getpid()}")
    fresh.symlink_to(target)
    fresh.replace(link)


def link_collection(checkout: Path = CHECKOUT) -> Path:
    """Bring the tree of links up to date and return the folder to put on a collections path."""
    collections = checkout / "collections"
    tree = collections.joinpath(*COLLECTION)
    tree.mkdir(parents=True, exist_ok=True)
    wanted = wanted_links(checkout, tree)
    for link in tree.iterdir():
        if link.name not in wanted and not link.name.startswith("."):
            link.unlink(missing_ok=True)
    for name, target in wanted.items():
        link = tree / name
        if not link.is_symlink() or str(link.readlink()) != target:
            replace_link(link, target)
    return collections


def main() -> int:
    """Link the checkout that holds this file."""
    link_collection()
    return 0


if __name__ == "__main__":
    sys.exit(main())
