# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

from brokerless.rpc.matchmaker.base import Route, Settings
from brokerless.rpc.matchmaker.mesh import MatchMakerMesh
from brokerless.rpc.topics import Address


def test_of_the_ring_only_the_hosts_matter(tmp_path: Path) -> None:
    path = tmp_path / "ring.json"
    path.write_text('{"any": ["c1", "c2"], "other": ["c2", "c3"]}')
    mesh = MatchMakerMesh(Settings("control1", str(path)))
    assert mesh.hosts() == {"c1", "c2", "c3"}
    assert mesh.watched_file == str(path)
    assert mesh.route(Address("never-heard-of")) == Route(announced=True)
    assert mesh.route(Address("any", fanout=True)) == Route(announced=True)
    assert mesh.route(Address("any", server="c3")) == Route(("c3",), announced=True)
    assert mesh.route(Address("any", server="agent-7")) == Route(announced=True)
