# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
from brokerless.rpc.matchmaker.redis_settings import RedisSettings, RedisSettingsError


@pytest.mark.parametrize(
    ("settings", "shown"),
    [
        (RedisSettings(), "127.0.0.1:6379"),
        (RedisSettings("redis1", 6380, db=3), "redis1:6380/3"),
        (RedisSettings("::1"), "[::1]:6379"),
        (RedisSettings(password="s3cret", username="me"), "127.0.0.1:6379"),
        (RedisSettings(url="redis://me:s3cret@redis1:6379/0"), "redis://redis1:6379/0"),
        (RedisSettings(url="rediss://:s3cret@redis1?ssl_ca_certs=/etc/ssl/ca.pem"), "rediss://redis1"),
        (RedisSettings(url="unix:///run/redis.sock?db=1&password=s3cret"), "unix:///run/redis.sock"),
    ],
)
def test_where_it_is_without_who_we_are(settings: RedisSettings, shown: str) -> None:
    assert settings.checked().shown == shown
    assert "s3cret" not in repr(settings)


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        (RedisSettings(key_prefix=""), "key_prefix ''"),
        (RedisSettings(key_prefix="a b"), "key_prefix 'a b'"),
        (RedisSettings(key_prefix="a" * 101), "at most 100"),
        (RedisSettings(url="http://:s3cret@redis1"), "must begin with redis://, rediss://, unix://"),
        (RedisSettings(url="redis1:6379"), "must begin with"),
        (RedisSettings(url="redis://:s3cret@redis1:99999/0"), "no port between 0 and 65535"),
        (RedisSettings(url="redis://:s3cret@[::1/0"), "no IPv6 address"),
        (RedisSettings(url="redis://:s3cret@redis1/nova"), "number of a database"),
        (RedisSettings(url="unix://?password=s3cret"), "no path of a UNIX socket"),
    ],
)
def test_what_is_not_acceptable_is_named_without_the_password(settings: RedisSettings, fault: str) -> None:
    with pytest.raises(RedisSettingsError) as caught:
        settings.checked()
    assert fault in str(caught.value)
    assert "s3cret" not in str(caught.value)
