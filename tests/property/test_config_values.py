"""Whatever stands in a configuration file, it is read or refused with a line for each error."""

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logguardd import config
from logguardd.config import settings, toml_text
from logguardd.errors import ConfigError
from logguardd.notation import duration, endpoint, size

TEXTS = st.text(max_size=20) | st.sampled_from(
    [
        "5m",
        "0s",
        "99999999d",
        "64KiB",
        "[::]:514",
        "systemd:x",
        "sqlite:///x",
        "redis://:pw@h",
        "postgresql://h/d",
        "/x",
        "-",
        "*",
    ]
)
SCALARS = st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS
VALUES = SCALARS | st.lists(TEXTS, max_size=3) | st.dictionaries(TEXTS, SCALARS, max_size=2)
KEYS = st.sampled_from(
    sorted({key.name for cls in [*settings.SECTIONS.values(), settings.Jail] for key in settings.keys(cls)})
)
SECTIONS = st.sampled_from([*settings.SECTIONS, "jail.flood", "jail.auth", "jail.other"])


@given(st.dictionaries(SECTIONS, st.dictionaries(KEYS | TEXTS, VALUES, max_size=3), max_size=3))
def test_any_values(sections):
    text = "\n".join(toml_text.table(name, table) for name, table in sections.items())
    tomllib.loads(text)
    try:
        read = config.parse(text, "f.toml")
    except ConfigError as error:
        for line in str(error).split("\n"):
            assert line.startswith("f.toml:")
            assert "; allowed: " in line
            assert line.isprintable()
    else:
        assert config.parse(config.show(read)).jail == read.jail


@given(st.text())
def test_any_text(text):
    try:
        config.parse(text, "f.toml")
    except ConfigError as error:
        assert str(error).startswith("f.toml:")  # noqa: PT017 - it may also be right


@given(st.text() | st.from_regex(r"[0-9]{1,4}[a-zA-Z]{1,3}|\[?[0-9a-f:.]{0,20}\]?:[0-9]{0,6}"))
def test_any_notation(text):
    for read in (duration, size, endpoint):
        try:
            read(text)
        except ValueError as error:
            assert str(error).isprintable()  # noqa: PT017 - it may also be right


@pytest.mark.parametrize("name", sorted(settings.SECTIONS))
def test_a_value_of_each_type_for_each_key(name):
    for key in settings.keys(settings.SECTIONS[name]):
        for wrong in ("\x1b", 10**30, -1, True, 1.5, [], {}, [1], [[]], {"a": {}}, "\u0661s"):
            try:
                key.kind.read(wrong)
            except ValueError as error:
                assert str(error).isprintable()  # noqa: PT017 - it may also be right
