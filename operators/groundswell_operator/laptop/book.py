"""What an API server would keep: the status of policies, and the spikes. One file in the home, replaced as a whole.

A change is in the file, and on the disk, before anybody hears that it was made: whoever is killed afterwards finds it again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

from groundswell_operator.applying.errors import Away
from groundswell_operator.policies import Object

LAYOUT = 1
RETRY_S = 1.0


class Unreadable(Exception):
    """The file is not what it has to be; the message says what to do."""


class Book:
    """The objects by name. They are never changed in place."""

    def __init__(self, file: Path) -> None:
        """Raises `Unreadable`."""
        self._file = file
        self.policies: Mapping[str, Object] = {}
        self.spikes: Mapping[str, Object] = {}
        self._version = 0
        try:
            told: Object = json.loads(file.read_text()) if file.exists() else {"layout": LAYOUT}
            if told["layout"] != LAYOUT:
                raise Unreadable(f"{file} was written by another version of this program: use that one to give back.")
            self.policies, self.spikes = told.get("policies", {}), told.get("spikes", {})
            self._version = told.get("version", 0)
        except (ValueError, KeyError, TypeError) as error:
            raise Unreadable(f"{file} is damaged: what it says was raised is not known. Move it away.") from error

    def put_policy(self, name: str, value: Object) -> Object:
        """The policy under its next version; raises `Away` when it cannot be written."""
        made = self._following(value)
        self._write({**self.policies, name: made}, self.spikes)
        return made

    def put_spike(self, name: str, value: Object) -> Object:
        """The spike under its next version; raises `Away`."""
        made = self._following(value)
        self._write(self.policies, {**self.spikes, name: made})
        return made

    def drop_policy(self, name: str) -> None:
        """Raises `Away`."""
        self._write({key: value for key, value in self.policies.items() if key != name}, self.spikes)

    def drop_spike(self, name: str) -> None:
        """Raises `Away`."""
        self._write(self.policies, {key: value for key, value in self.spikes.items() if key != name})

    def _following(self, value: Object) -> Object:
        self._version += 1
        return {**value, "metadata": {**value["metadata"], "resourceVersion": str(self._version)}}

    def _write(self, policies: Mapping[str, Object], spikes: Mapping[str, Object]) -> None:
        told = {"layout": LAYOUT, "version": self._version, "policies": policies, "spikes": spikes}
        draft = self._file.with_suffix(".new")
        try:
            with draft.open("w") as stream:
                json.dump(told, stream, indent=1)
                stream.flush()
                os.fsync(stream.fileno())
            draft.replace(self._file)
        except OSError as error:
            raise Away(f"{self._file} cannot be written: {error}", RETRY_S) from error
        self.policies, self.spikes = policies, spikes
