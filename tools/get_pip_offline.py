# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""Stands in for get-pip.py, which ansible-test otherwise downloads: installs pip from the one wheel beside this file.

`tools/ansible_test_sanity.py` puts a copy where ansible-test looks for a download of earlier.
"""

from __future__ import annotations

import sys
from pathlib import Path


def main() -> int:
    """Install pip into the environment of the running Python, which may have none; return pip's exit code."""
    (wheel,) = Path(__file__).resolve().parent.glob("pip-*.whl")
    sys.path.insert(0, str(wheel))
    from pip._internal.cli.main import main as pip  # noqa: PLC0415 - found in the wheel, once its path is known

    return pip(["install", "--quiet", "--no-index", "--disable-pip-version-check", str(wheel)])


if __name__ == "__main__":
    sys.exit(main())
