# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""site.yml and ring.yml on the embedded inventory: foretold exactly, done once, and nothing restarted without a reason.

The tests run in the order of this file, on one deployment in a directory of its own.
"""

from __future__ import annotations

import shutil
import signal
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from embedded_site import ADDRESSES, Run, Site, end
from receiver_process import short_directory, wait_until
from redis_server import RedisServer

pytestmark = pytest.mark.timeout(1200)
"""Whichever test is first waits for the deployment."""
HOSTS = set(ADDRESSES)
START = "Have the receiver's process started"
RESTART = "Restart the receiver's process"
CONFIGURE = "Write the receiver's configuration"
WRITE_RING = "Write the MatchMaker's ring"
MAKE_KEYS = "Have the host's own keys"
ALLOW = "Write the allow-list"


@pytest.fixture(scope="module")
def site(checkout: Path) -> Iterator[Site]:
    """A place for the three hosts; their receivers are stopped at the end."""
    with short_directory() as directory:
        home = directory / "h"
        home.mkdir()
        site = Site(checkout, directory, home)
        try:
            yield site
        finally:
            for host in ADDRESSES:
                if site.file(host, "run/receiver.pid").exists():
                    end(site.pid(host))


@pytest.fixture(scope="module")
def deployed(site: Site) -> tuple[Run, Run]:
    """The forecast on a machine that has nothing, and the deployment."""
    forecast = site.play("site.yml", "--check", "--diff")
    assert forecast.exit_code == 0, forecast.output
    assert site.written().isdisjoint(HOSTS), "check mode wrote something"
    real = site.play("site.yml")
    assert real.exit_code == 0, real.output
    return forecast, real


def test_check_mode_foretells_exactly_what_the_first_run_changes(deployed: tuple[Run, Run]) -> None:
    forecast, real = deployed
    assert forecast.changed == real.changed
    assert {host for host, _task in real.changed} == HOSTS
    assert {"Install the wheel", WRITE_RING, MAKE_KEYS, ALLOW, CONFIGURE, START} <= real.tasks_of("compute2")


def test_check_mode_shows_the_files_that_the_first_run_writes(site: Site, deployed: tuple[Run, Run]) -> None:
    forecast, _real = deployed
    for host in HOSTS:
        for name in ("etc/brokerless.conf", "etc/matchmaker_ring.json"):
            for line in site.file(host, name).read_text(encoding="utf-8").splitlines():
                assert f"+{line}" in forecast.output


@pytest.mark.usefixtures("deployed")
def test_the_second_run_changes_nothing(site: Site) -> None:
    before = site.pids()
    again = site.play("site.yml")
    assert again.exit_code == 0, again.output
    assert again.changed == frozenset()
    assert site.pids() == before
    # from here on the wheel that was built is given, so that the runs below depend on nothing but what they change
    [built] = (site.directory / "d" / "wheel").glob("*.whl")
    site.variables["runtime_wheel"] = shutil.copy(built, site.directory)


@pytest.mark.usefixtures("deployed")
def test_each_receiver_listens_on_its_host_and_knows_the_others(site: Site) -> None:
    for host in HOSTS:
        status = site.brokerless(host, "status")
        assert status["host"] == host
        assert status["ports"] == [site.variables["brokerless_start_port"]]
        assert {peer["host"] for peer in status["peers"]} == HOSTS - {host}


@pytest.mark.usefixtures("deployed")
def test_only_the_service_group_can_reach_the_sockets(site: Site) -> None:
    for host in HOSTS:
        assert site.file(host, "run").stat().st_mode & 0o777 == 0o750
        assert site.file(host, "etc/brokerless.conf").stat().st_mode & 0o777 == 0o640


def public_keys(site: Site, at: str) -> dict[str, list[str]]:
    """The public keys in the allow-list of a host, by host."""
    return {path.stem: path.read_text(encoding="utf-8").split() for path in site.file(at, "etc/curve_hosts").iterdir()}


def up(site: Site, host: str) -> set[str]:
    """The other hosts that a host's receiver has connections to."""
    return {peer["host"] for peer in site.brokerless(host, "status")["peers"] if peer["state"] == "up"}


@pytest.mark.usefixtures("deployed")
def test_each_host_has_keys_of_its_own_and_lets_the_others_in(site: Site) -> None:
    in_use = {host: site.brokerless(host, "status")["curve"]["public_key"] for host in HOSTS}
    assert len(set(in_use.values())) == len(HOSTS)
    for host in HOSTS:
        secret = site.file(host, "etc/curve.secret")
        assert secret.stat().st_mode & 0o777 == 0o600
        assert f"public = {in_use[host]}\n" in secret.read_text(encoding="utf-8")
        assert public_keys(site, host) == {other: [key] for other, key in in_use.items()}
        wait_until(lambda host=host: up(site, host) == HOSTS - {host}, f"{host} is connected to the others")


@pytest.mark.usefixtures("deployed")
def test_keys_are_rotated_as_foretold_and_services_see_nothing_of_it(site: Site) -> None:
    before, pids = public_keys(site, "control1"), site.pids()
    refused = site.play("rotate_keys.yml", "--limit=compute")
    assert refused.exit_code != 0
    assert "control1 would not accept the new keys, as this run leaves them out" in refused.output
    assert refused.changed == frozenset()
    forecast = site.play("rotate_keys.yml", "--check")
    assert forecast.exit_code == 0, forecast.output
    assert public_keys(site, "control1") == before
    real = site.play("rotate_keys.yml", "--diff")
    assert real.exit_code == 0, real.output
    assert real.changed == forecast.changed
    for host in HOSTS:
        assert real.tasks_of(host) == {"Have a key that comes next", ALLOW, "Use the next key", RESTART, "Forget the old key"}
        after = public_keys(site, host)
        assert after.keys() == before.keys()
        assert all(len(keys) == 1 and keys != before[other] for other, keys in after.items())
        secret = next(line for line in site.file(host, "etc/curve.secret").read_text(encoding="utf-8").splitlines() if line.startswith("secret = "))
        assert secret.removeprefix("secret = ") not in real.output
        assert site.pid(host) != pids[host]
        wait_until(lambda host=host: up(site, host) == HOSTS - {host}, f"{host} is connected to the others")


@pytest.mark.usefixtures("deployed")
def test_a_changed_allow_list_reaches_receivers_that_go_on_running(site: Site) -> None:
    before, pids = public_keys(site, "compute1"), site.pids()
    shrunk = site.play("ring.yml", "--limit=compute1", receiver_curve_groups=["compute"])
    assert shrunk.exit_code == 0, shrunk.output
    assert shrunk.changed == {("compute1", ALLOW)}
    # compute2 was outside --limit, and is still let in
    assert public_keys(site, "compute1") == {host: keys for host, keys in before.items() if host != "control1"}
    wait_until(lambda: site.brokerless("compute1", "status")["curve"]["hosts"] == 2, "the receiver has read the list")
    limited = site.play("ring.yml", "--limit=compute1")
    assert limited.changed == frozenset()
    assert "has no public key of control1" in " ".join(limited.output.split())
    back = site.play("ring.yml")
    assert back.changed == {("compute1", ALLOW)}
    assert public_keys(site, "compute1") == before
    for host in HOSTS:
        wait_until(lambda host=host: up(site, host) == HOSTS - {host}, f"{host} is connected to the others")
    assert site.pids() == pids


@pytest.mark.usefixtures("deployed")
def test_a_changed_ring_reaches_receivers_that_go_on_running(site: Site) -> None:
    before = site.pids()
    site.variables["brokerless_topics"] = {"compute": {"groups": ["compute"]}, "console": {"groups": ["control"]}}
    forecast = site.play("ring.yml", "--check")
    real = site.play("ring.yml")
    assert real.changed == forecast.changed == {(host, WRITE_RING) for host in HOSTS}
    for host in HOSTS:
        wait_until(
            lambda host=host: [entry["host"] for entry in site.brokerless(host, "ring", "show", "console")["hosts"]] == ["control1"],
            f"{host} takes the new ring over",
        )
    assert site.pids() == before
    again = site.play("ring.yml")
    assert again.changed == frozenset()


@pytest.mark.usefixtures("deployed")
def test_a_changed_configuration_restarts_that_receiver_once(site: Site) -> None:
    before = site.pids()
    site.variables["receiver_options"] = {"rpc_response_timeout": 33}
    forecast = site.play("site.yml", "--check", "--limit=compute1")
    real = site.play("site.yml", "--limit=compute1")
    assert real.exit_code == 0, real.output
    assert real.changed == forecast.changed == {("compute1", CONFIGURE), ("compute1", RESTART)}
    after = site.pids()
    assert {host for host in HOSTS if after[host] != before[host]} == {"compute1"}
    assert "rpc_response_timeout = 33\n" in site.file("compute1", "etc/brokerless.conf").read_text(encoding="utf-8")


@pytest.mark.usefixtures("deployed")
def test_a_configuration_that_the_receiver_refuses_replaces_nothing(site: Site) -> None:
    before = site.pids()
    old = site.file("control1", "etc/brokerless.conf").read_text(encoding="utf-8")
    refused = site.play("site.yml", "--limit=control1", receiver_options={"rpc_cast_timeout": "soon"})
    assert refused.exit_code != 0
    assert "rpc_cast_timeout" in refused.output
    assert "soon" in refused.output
    assert site.file("control1", "etc/brokerless.conf").read_text(encoding="utf-8") == old
    assert site.pids() == before


@pytest.mark.usefixtures("deployed")
def test_a_receiver_that_died_is_started_and_nothing_else_done(site: Site) -> None:
    dead = site.pid("compute1")
    end(dead, signal.SIGKILL)
    real = site.play("site.yml", "--limit=compute1")
    assert real.exit_code == 0, real.output
    assert real.changed == {("compute1", START)}
    assert site.pid("compute1") != dead


@pytest.mark.usefixtures("deployed")
def test_another_wheel_of_the_same_version_is_installed_and_the_receiver_restarted(site: Site) -> None:
    before = site.pid("compute1")
    with zipfile.ZipFile(site.variables["runtime_wheel"], "a") as wheel:
        wheel.comment = b"another one"
    forecast = site.play("site.yml", "--check", "--limit=compute1")
    real = site.play("site.yml", "--limit=compute1")
    assert real.exit_code == 0, real.output
    assert real.changed == forecast.changed
    assert real.tasks_of("compute1") == {"Copy the wheel", "Install the wheel", "Note which wheel is installed", RESTART}
    assert site.pid("compute1") != before


@pytest.mark.usefixtures("deployed")
def test_redis_is_used_with_a_password_that_only_the_receiver_can_read(site: Site) -> None:
    password = "it's $esame"
    with RedisServer() as server, redis.Redis(port=server.port) as database:
        database.config_set("requirepass", password)
        variables = {
            "receiver_matchmaker": "redis",
            "receiver_redis": {"port": server.port, "key_prefix": "embedded"},
            "receiver_redis_password": password,
        }
        forecast = site.play("site.yml", "--check", "--diff", "--limit=compute1", **variables)
        real = site.play("site.yml", "--diff", "--limit=compute1", **variables)
        assert real.exit_code == 0, real.output
        # another command line is another process
        assert real.changed == forecast.changed == {("compute1", CONFIGURE), ("compute1", "Write the password of Redis"), ("compute1", START)}
        assert "esame" not in forecast.output + real.output
        assert site.file("compute1", "etc/matchmaker_redis.conf").stat().st_mode & 0o777 == 0o400
        assert "esame" not in site.file("compute1", "etc/brokerless.conf").read_text(encoding="utf-8")
        wait_until(lambda: database.hexists("embedded:hosts", "compute1"), "the host is registered")
        assert site.brokerless("compute1", "status")["matchmaker"]["error"] == ""
    back = site.play("site.yml", "--limit=compute1")
    assert back.changed == {("compute1", CONFIGURE), ("compute1", "Have no password of Redis left"), ("compute1", START)}


@pytest.mark.usefixtures("deployed")
def test_groups_that_the_inventory_lacks_are_named_before_anything_is_done(site: Site) -> None:
    refused = site.play("site.yml", brokerless_firewall_groups=["contorl"])
    assert refused.exit_code != 0
    assert "brokerless_firewall_groups names contorl, and the inventory has no such group" in refused.output
    assert refused.changed == frozenset()


@pytest.mark.usefixtures("deployed")
def test_nothing_was_written_outside(site: Site) -> None:
    assert [str(path.relative_to(site.home)) for path in site.home.rglob("*")] == []
    assert [path.name for path in site.temporary.iterdir()] == []
