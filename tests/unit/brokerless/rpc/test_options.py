# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from brokerless.rpc import options as options_module
from brokerless.rpc.options import OptionError, list_options, load_options, options, redis_options, register_options
from oslo_config import cfg

DEFAULTS: dict[str, Any] = {
    "rpc_backend": "brokerless.rpc.impl_zmq",
    "rpc_zmq_bind_address": "*",
    "rpc_zmq_start_port": 9500,
    "rpc_zmq_port_count": 51,
    "rpc_zmq_receiver_workers": 1,
    "rpc_zmq_max_outstanding": 100_000,
    "rpc_zmq_notification_store": 10_000,
    "rpc_notification_timeout": 3600.0,
    "rpc_zmq_matchmaker": "localhost",
    "rpc_zmq_matchmaker_options": {},
    "rpc_zmq_matchmaker_ringfile": "/etc/nova/matchmaker_ring.json",
    "rpc_zmq_broker_ip": "127.0.0.1",
    "rpc_zmq_ipc_dir": "/var/run/openstack",
    "rpc_zmq_host": socket.gethostname(),
    "rpc_zmq_host_addresses": {},
    "rpc_zmq_topic_backlog": 4096,
    "rpc_zmq_max_message_size": 16 * 1024 * 1024,
    "rpc_zmq_curve": False,
    "rpc_zmq_curve_secret_file": "/etc/brokerless/curve.secret",
    "rpc_zmq_curve_hosts_dir": "/etc/brokerless/curve_hosts",
    "rpc_zmq_max_waiting_bytes": 256 * 1024 * 1024,
    "rpc_zmq_contexts": 1,
    "rpc_zmq_heartbeat_interval": 1.0,
    "rpc_zmq_metrics_address": "127.0.0.1",
    "rpc_zmq_metrics_port": 0,
    "rpc_thread_pool_size": 1024,
    "rpc_response_timeout": 60.0,
    "rpc_cast_timeout": 30.0,
    "allowed_rpc_exception_modules": ["builtins", "nova.exception", "cinder.exception", "brokerless.rpc.errors"],
    "matchmaker_heartbeat_freq": 300.0,
    "matchmaker_heartbeat_ttl": 600.0,
}

REDIS_DEFAULTS: dict[str, Any] = {
    "host": "127.0.0.1",
    "port": 6379,
    "db": 0,
    "username": None,
    "password": None,
    "url": None,
    "key_prefix": "brokerless",
    "timeout": 5.0,
}

BOUNDS: dict[str, tuple[float | None, float | None]] = {
    "rpc_zmq_start_port": (1, 65535),
    "rpc_zmq_port_count": (1, 65535),
    "rpc_zmq_receiver_workers": (1, 32),
    "rpc_zmq_max_outstanding": (1, None),
    "rpc_zmq_notification_store": (0, None),
    "rpc_notification_timeout": (0.001, 604800.0),
    "rpc_zmq_topic_backlog": (1, None),
    "rpc_zmq_max_message_size": (1024, 1 << 30),
    "rpc_zmq_max_waiting_bytes": (1024 * 1024, None),
    "rpc_zmq_contexts": (1, 64),
    "rpc_zmq_heartbeat_interval": (0.05, None),
    "rpc_zmq_metrics_port": (0, 65535),
    "rpc_thread_pool_size": (1, None),
    "rpc_response_timeout": (0.001, 604800.0),
    "rpc_cast_timeout": (0.001, 604800.0),
    "matchmaker_heartbeat_freq": (0.05, None),
    "matchmaker_heartbeat_ttl": (0.1, None),
}
SECONDS = ["rpc_zmq_heartbeat_interval", "rpc_response_timeout", "rpc_cast_timeout", "matchmaker_heartbeat_freq", "matchmaker_heartbeat_ttl"]


@pytest.fixture
def no_file_of_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The path that stands in for the default configuration file; nothing is there yet."""
    path = tmp_path / "etc" / "brokerless.conf"
    monkeypatch.setattr(options_module, "DEFAULT_CONFIG_FILE", str(path))
    return path


def written(path: Path, *lines: str) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(["[DEFAULT]", *lines, ""]))
    return str(path)


def refusal(*files: str) -> str:
    with pytest.raises(OptionError) as caught:
        load_options(list(files))
    assert str(caught.value).isprintable()
    return str(caught.value)


def test_each_option_has_a_default_and_a_help_text() -> None:
    table = options()
    assert sorted(option.name for option in table) == sorted(DEFAULTS)
    assert sorted(option.name for option in redis_options()) == sorted(REDIS_DEFAULTS)
    assert all(option.help for option in [*table, *redis_options()])
    assert list_options() == [("DEFAULT", table), ("matchmaker_redis", redis_options())]


@pytest.mark.parametrize("name", DEFAULTS)
def test_the_default(name: str, no_file_of_this_machine: Path) -> None:
    assert getattr(load_options(), name) == DEFAULTS[name]


@pytest.mark.parametrize("name", REDIS_DEFAULTS)
def test_the_default_of_redis(name: str, no_file_of_this_machine: Path) -> None:
    assert getattr(load_options().matchmaker_redis, name) == REDIS_DEFAULTS[name]


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("port = 0", "option [matchmaker_redis] port in FILE: Should be greater than or equal to 1"),
        ("db = -1", "option [matchmaker_redis] db in FILE: Should be greater than or equal to 0"),
        ("timeout = nan", "option [matchmaker_redis] timeout in FILE: "),
        ("password =", "option [matchmaker_redis] password in FILE: it is empty"),
    ],
)
def test_a_bad_value_of_redis_is_named_with_its_group(line: str, fault: str, tmp_path: Path) -> None:
    path = written(tmp_path / "a.conf", "[matchmaker_redis]", line)
    assert fault.replace("FILE", path) in refusal(path)


def test_the_historical_names_of_redis_are_read(tmp_path: Path) -> None:
    conf = load_options([written(tmp_path / "a.conf", "[matchmaker_redis]", "host = redis1", "port = 6380", "password = s3cret")])
    assert (conf.matchmaker_redis.host, conf.matchmaker_redis.port, conf.matchmaker_redis.password) == ("redis1", 6380, "s3cret")


def test_every_number_has_a_lower_bound() -> None:
    numbers = {option.name for option in options() if isinstance(option, (cfg.IntOpt, cfg.FloatOpt, cfg.PortOpt))}
    assert numbers == set(BOUNDS)


@pytest.mark.parametrize(("name", "least", "most"), [(name, *bounds) for name, bounds in BOUNDS.items()])
def test_the_bounds(name: str, least: float, most: float | None, tmp_path: Path) -> None:
    # a port count that goes with the start port
    rest = {
        "rpc_zmq_start_port": ["rpc_zmq_port_count = 1"],
        "rpc_zmq_port_count": ["rpc_zmq_start_port = 1"],
        "rpc_zmq_metrics_port": ["rpc_zmq_start_port = 65500", "rpc_zmq_port_count = 36"],
    }.get(name, [])
    step = 1 if isinstance(least, int) else least / 10

    def load(value: float) -> Any:
        return getattr(load_options([written(tmp_path / "bounds.conf", f"{name} = {value}", *rest)]), name)

    assert load(least) == least
    with pytest.raises(OptionError, match=rf"option {name} in .*bounds\.conf: Should be greater than or equal to"):
        load(least - step)
    if most is not None:
        assert load(most) == most
        with pytest.raises(OptionError, match=rf"option {name} in .*bounds\.conf: Should be less than or equal to"):
            load(most + 1)


@pytest.mark.parametrize("port", [9500, 9551, 80])
def test_metrics_are_shown_within_the_reserved_range_beside_the_receiver(port: int, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=rf"rpc_zmq_metrics_port {port} is not one of the reserved ports .* 9501 to 9550"):
        load_options([written(tmp_path / "metrics.conf", f"rpc_zmq_metrics_port = {port}")])
    assert load_options([written(tmp_path / "metrics.conf", "rpc_zmq_metrics_port = 9550")]).rpc_zmq_metrics_port == 9550


@pytest.mark.parametrize("name", SECONDS)
@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_seconds_are_finite(name: str, value: str, tmp_path: Path) -> None:
    assert f"option {name} in {tmp_path}/a.conf: " in refusal(written(tmp_path / "a.conf", f"{name} = {value}"))


@pytest.mark.parametrize("name", [name for name in DEFAULTS if not isinstance(DEFAULTS[name], (list, dict))])
def test_an_empty_value_is_refused(name: str, tmp_path: Path) -> None:
    text = refusal(written(tmp_path / "a.conf", f"{name} ="))
    assert f"option {name} in {tmp_path}/a.conf: " in text
    assert "empty" in text


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("rpc_zmq_start_port = http", "option rpc_zmq_start_port in FILE: invalid literal for int() with base 10: 'http'"),
        ("rpc_zmq_port_count = 1.5", "option rpc_zmq_port_count in FILE: invalid literal for int() with base 10: '1.5'"),
        ("rpc_cast_timeout = soon", "option rpc_cast_timeout in FILE: could not convert string to float: 'soon'"),
        ("rpc_zmq_host = my host", "option rpc_zmq_host in FILE: host 'my host' contains ' ', which is not allowed in it"),
        ("rpc_zmq_host = ../x", "option rpc_zmq_host in FILE: host '../x' contains '..'"),
        ("rpc_zmq_host_addresses = control1", 'option rpc_zmq_host_addresses in FILE: Value should be NAME:VALUE pairs separated by ","'),
        ("rpc_zmq_host_addresses = a:127.0.0.1,a:127.0.0.2", "option rpc_zmq_host_addresses in FILE: Duplicate key a"),
        (
            "rpc_zmq_ipc_dir = /run/$nothing",
            "option rpc_zmq_ipc_dir in FILE: its value refers with $ to an option that does not exist; a dollar sign is written $$",
        ),
    ],
)
def test_a_bad_value_is_named_with_its_option_and_file(line: str, fault: str, tmp_path: Path) -> None:
    path = written(tmp_path / "a.conf", line)
    assert refusal(path) == fault.replace("FILE", path)


def test_a_bad_value_in_the_environment_is_named(no_file_of_this_machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OS_DEFAULT__RPC_ZMQ_START_PORT", "http")
    assert refusal().startswith("option rpc_zmq_start_port in the environment: invalid literal")


def test_values_are_read(tmp_path: Path) -> None:
    conf = load_options(
        [
            written(
                tmp_path / "a.conf",
                "rpc_zmq_host = control1",
                "rpc_zmq_host_addresses = control1:127.0.1.1,compute1:[::1]",
                "allowed_rpc_exception_modules = builtins, my.errors",
                "rpc_zmq_ipc_dir = /run/$rpc_zmq_host",
                "an_option_of_somebody_else = 1",
            )
        ]
    )
    assert conf.rpc_zmq_host == "control1"
    assert conf.rpc_zmq_host_addresses == {"control1": "127.0.1.1", "compute1": "[::1]"}
    assert conf.allowed_rpc_exception_modules == ["builtins", "my.errors"]
    assert conf.rpc_zmq_ipc_dir == "/run/control1"


def test_later_files_win(tmp_path: Path) -> None:
    first = written(tmp_path / "a.conf", "rpc_zmq_start_port = 9600", "rpc_zmq_host = a")
    second = written(tmp_path / "b.conf", "rpc_zmq_start_port = 9700")
    conf = load_options([first, second])
    assert (conf.rpc_zmq_start_port, conf.rpc_zmq_host) == (9700, "a")


@pytest.mark.parametrize(
    "lines",
    [
        ["[DEFAULT]", "rpc_zmq_matchmaker_ringfile = /my/ring.json"],
        ["[DEFAULT]", "matchmaker_ringfile = /my/ring.json"],
        ["[matchmaker_ring]", "ringfile = /my/ring.json"],
        ["[DEFAULT]", "rpc_zmq_matchmaker_ringfile = /my/ring.json", "matchmaker_ringfile = /old/ring.json"],
    ],
    ids=["name", "deprecated name", "deprecated group", "both"],
)
def test_the_names_of_the_ring_file_option(lines: list[str], tmp_path: Path) -> None:
    path = tmp_path / "a.conf"
    path.write_text("\n".join(lines))
    assert load_options([str(path)]).rpc_zmq_matchmaker_ringfile == "/my/ring.json"


@pytest.mark.parametrize(("start", "count", "last"), [(65535, 2, 65536), (9500, 56037, 65536), (65500, 51, 65550)])
def test_ports_past_the_last_are_refused(start: int, count: int, last: int, tmp_path: Path) -> None:
    path = written(tmp_path / "a.conf", f"rpc_zmq_start_port = {start}", f"rpc_zmq_port_count = {count}")
    assert refusal(path) == f"rpc_zmq_start_port {start} with rpc_zmq_port_count {count} ends at {last}, past 65535"


@pytest.mark.parametrize(("start", "count"), [(65535, 1), (9500, 56036), (1, 65535)])
def test_ports_up_to_the_last_are_accepted(start: int, count: int, tmp_path: Path) -> None:
    conf = load_options([written(tmp_path / "a.conf", f"rpc_zmq_start_port = {start}", f"rpc_zmq_port_count = {count}")])
    assert conf.rpc_zmq_start_port + conf.rpc_zmq_port_count - 1 == start + count - 1


# --- files that can't be read --------------------------------------------------------------------------------------------------------------


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    there = written(tmp_path / "a.conf")
    assert refusal(there, f"{tmp_path}/none.conf") == f"configuration file not found: {tmp_path}/none.conf"


def test_a_file_that_may_not_be_read_is_named(open_tmp_path: Path, unprivileged: Callable[[Callable[[], str]], str]) -> None:
    path = written(open_tmp_path / "secret.conf")
    Path(path).chmod(0)
    assert unprivileged(lambda: refusal(path)) == f"configuration file can't be read, permission denied: {path}"


def test_a_default_file_in_a_closed_directory_is_not_passed_over(
    open_tmp_path: Path, no_file_of_this_machine: Path, unprivileged: Callable[[Callable[[], str]], str]
) -> None:
    path = written(no_file_of_this_machine)
    no_file_of_this_machine.parent.chmod(0)
    try:
        assert unprivileged(refusal) == f"configuration file can't be read, permission denied: {path}"
    finally:
        no_file_of_this_machine.parent.chmod(0o700)


def test_the_default_file_is_read_if_it_is_there_and_no_other_is_named(no_file_of_this_machine: Path, tmp_path: Path) -> None:
    assert load_options().rpc_zmq_start_port == 9500
    written(no_file_of_this_machine, "rpc_zmq_start_port = 9600")
    assert load_options().rpc_zmq_start_port == 9600
    assert load_options([written(tmp_path / "own.conf")]).rpc_zmq_start_port == 9500


@pytest.mark.parametrize("name", ["directory", "a.conf/below", "with\0nul"])
def test_what_is_no_file_is_named(name: str, tmp_path: Path) -> None:
    (tmp_path / "directory").mkdir()
    written(tmp_path / "a.conf")
    text = refusal(f"{tmp_path}/{name}")
    assert text.startswith("configuration file ")
    assert name.replace("\0", "\\x00") in text
    assert "can't be read: " in text


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"[DEFAULT]\njunk\n", "FILE:2, No ':' or '=' found in assignment: 'junk'"),
        (b"rpc_zmq_host = a\n", "FILE:1, Section must be started before assignment"),
        (b"[DEFAULT\n", "FILE:1, Invalid section (must end with ]): '[DEFAULT'"),
        (b"[DEFAULT]\n= a\n", "FILE:2, Key cannot be empty"),
        (b"[DEFAULT]\nrpc_zmq_host = h\xf6st\n", "FILE: not UTF-8: invalid"),
    ],
)
def test_a_broken_file_is_named_with_the_line(content: bytes, fault: str, tmp_path: Path) -> None:
    path = tmp_path / "broken.conf"
    path.write_bytes(content)
    assert fault.replace("FILE", str(path)) in refusal(str(path))


def test_registering_the_table_twice_does_no_harm() -> None:
    conf = cfg.ConfigOpts()
    register_options(conf)
    register_options(conf)
    conf(args=[], default_config_files=[])
    assert conf.rpc_zmq_start_port == 9500
