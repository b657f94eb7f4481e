from __future__ import annotations

import pytest

from logguardd.errors import ConfigError
from logguardd.limiter.redis import RedisLimiter


@pytest.mark.parametrize(
    ("url", "what"),
    [
        ("", "not a URL"),
        ("localhost:6379", "not a URL"),
        ("http://localhost", "scheme"),
        ("memory://", "scheme"),
        ("redis://", "host"),
        ("redis://host:99999", "port"),
        ("redis://host:http", "port"),
        ("redis://host/zero", "not a number"),
        ("redis://host/0?timeout=5", "timeout"),
        ("redis://host/0?ssl_ca_certs=/x", "ssl_ca_certs"),
        ("rediss://host/0?ssl_ca_certs=/does/not/exist", "No such file"),
        ("rediss://host/0?ssl_certfile=/x", "go together"),
        ("rediss://host/0?ssl_cert_reqs=maybe", "maybe"),
        ("rediss://host/0?ssl_check_hostname=1", "ssl_check_hostname"),
        ("unix://relative/path", "path"),
        ("unix:///run/redis.sock?db=x", "not a number"),
        ("redis://user:secret@host/zero", "not a number"),
    ],
)
def test_a_wrong_url_says_what_is_wrong_and_what_is_allowed(url, what):
    with pytest.raises(ConfigError, match=what) as error:
        RedisLimiter(url)
    text = str(error.value)
    assert "allowed: " in text
    assert "\n" not in text
    assert "secret" not in text
