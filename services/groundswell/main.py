"""The composition root: the only file that names every service.

A module is imported when it is run, so that a process pays for what it does and for nothing else.
"""

import asyncio
import gc
import importlib
import os
from collections.abc import Sequence

import uvloop

from groundswell.kernel import modules, settings

MODULES = {
    "tenancy": "groundswell.tenancy.module:tenancy",
    "identity": "groundswell.identity.module:identity",
    "links": "groundswell.links.module:links",
    "analytics": "groundswell.analytics.module.collector:analytics",
    "live": "groundswell.analytics.module.live:live",
    "writer": "groundswell.analytics.module.writer:writer",
    "gateway": "groundswell.gateway.module:gateway",
}
"""Every module and the factory that makes it, in the order in which they start when they share a process."""


def run(names: Sequence[str]) -> int:
    """Runs the named modules (or `all`) in this process until it is told to stop; returns the exit code.

    Raises `UnknownModule`, and `SettingError` when the environment holds what a setting cannot be.
    """
    wanted = list(MODULES) if "all" in names else list(names)
    if unknown := [name for name in wanted if name not in MODULES]:
        raise UnknownModule(unknown[0])
    factories = {name: _factory(name) for name in wanted}
    gc.enable()  # who imported all this may have spared it
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(modules.run(factories, os.environ))


class UnknownModule(settings.SettingError):
    """A name that no module has."""

    def __init__(self, name: str) -> None:
        super().__init__(f"There is no module {name!r}. There are: {', '.join(MODULES)}, and `all`.")


def _factory(name: str) -> modules.Factory:
    package, _, attribute = MODULES[name].partition(":")
    factory: modules.Factory = getattr(importlib.import_module(package), attribute)
    return factory
