# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""What every test needs: the checkout as a collection on the path, also when pytest is run by hand."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from link_collection import link_collection

CHECKOUT = Path(__file__).resolve().parent.parent


def pytest_configure() -> None:
    """Link new entries of the checkout before tests are collected, and let Ansible write nowhere but into the checkout."""
    link_collection()
    os.environ.setdefault("ANSIBLE_CONFIG", str(CHECKOUT / "ansible.cfg"))
    os.environ.setdefault("ANSIBLE_HOME", str(CHECKOUT / ".ansible"))
    os.environ.setdefault("ANSIBLE_REMOTE_TMP", str(CHECKOUT / ".ansible" / "remote_tmp"))


@pytest.fixture(scope="session")
def checkout() -> Path:
    """The root of the checkout."""
    return CHECKOUT
