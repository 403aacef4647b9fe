"""Settings: the only place that reads the environment.

A section is a frozen dataclass whose fields have defaults and docstrings. `load` fills it from variables named
`<SECTION>_<FIELD>` and refuses what it cannot read, naming the variable and what it wants.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, TypeVar, dataclass_transform, get_type_hints
from urllib.parse import urlsplit

S = TypeVar("S")

Environment = Mapping[str, str]


class SettingError(Exception):
    """A variable of the environment holds something that its setting cannot be."""


def host_and_port(variable: str, address: str) -> tuple[str, int]:
    """The parts of `HOST:PORT`, the host without brackets; raises `SettingError`, which names the variable."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65_535:
        raise SettingError(f"{variable} must be HOST:PORT, such as 127.0.0.1:8080; it is {address!r}.")
    return host.strip("[]"), int(port)


def check_postgres(variable: str, dsn: str) -> None:
    """Raises `SettingError` for what is no address of a PostgreSQL server; the words do not show it, since it holds a password."""
    refused = SettingError(
        f"{variable} must be postgresql://USER:PASSWORD@HOST:PORT/DATABASE, with %XX for what is special in an address."
    )
    try:
        parts = urlsplit(dsn)
    except ValueError:  # a bracket, say; its words may show all of it
        raise refused from None
    hosts = parts.netloc.rpartition("@")[2].split(",")
    ports = [host.rpartition(":")[2] for host in hosts if ":" in host.rpartition("]")[2]]
    if parts.scheme not in ("postgresql", "postgres") or not all(port.isdecimal() for port in ports):
        raise refused


@dataclass_transform(frozen_default=True, kw_only_default=True)
def section(prefix: str) -> Callable[[type[S]], type[S]]:
    """Makes a frozen settings class whose fields are read from `<prefix>_<FIELD>`; an empty prefix reads `<FIELD>` itself."""

    def make(cls: type[S]) -> type[S]:
        made = dataclass(frozen=True, kw_only=True)(cls)
        made.__settings_prefix__ = prefix  # type: ignore[attr-defined]  # kept on the class for `load`
        return made

    return make


def load(cls: type[S], environment: Environment | None = None) -> S:
    """Reads the section `cls`; raises `SettingError` on a value of the wrong kind. Unset or empty means the default."""
    env = os.environ if environment is None else environment
    prefix = cls.__settings_prefix__  # type: ignore[attr-defined]  # set by `section`
    hints = get_type_hints(cls)
    given: dict[str, Any] = {}
    for each in fields(cls):  # type: ignore[arg-type]  # `section` makes every settings class a dataclass
        variable = f"{prefix}_{each.name}".upper().lstrip("_")
        text = env.get(variable, "")
        if text:
            given[each.name] = _parse(variable, text, hints[each.name])
    return cls(**given)


def _parse(variable: str, text: str, kind: Any) -> Any:
    if kind is str:
        return text
    if kind is bool:
        if text.lower() in {"1", "true", "yes", "on"}:
            return True
        if text.lower() in {"0", "false", "no", "off"}:
            return False
        raise SettingError(f"{variable} is {text!r}; it must be `true` or `false`.")
    if kind in (int, float):
        try:
            return kind(text)
        except ValueError as error:
            raise SettingError(
                f"{variable} is {text!r}; it must be {'a whole number' if kind is int else 'a number'}."
            ) from error
    if kind == tuple[str, ...]:
        return tuple(part.strip() for part in text.split(",") if part.strip())
    raise TypeError(f"{variable}: settings of type {kind} are not supported")
