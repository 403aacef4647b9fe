"""The engines that need no process: ClickHouse, which runs inside the one process that owns its folder, and the folder of objects."""

from groundswell.engines.engine import Folders, Say


class ClickHouse:
    """chDB: the ClickHouse engine as a library. One process at a time may own the folder."""

    name = "clickhouse"
    variable = "CLICKHOUSE_DSN"

    def __init__(self, folders: Folders) -> None:
        self._folders = folders

    @property
    def address(self) -> str:
        return f"chdb://{self._folders.data}"

    def prepare(self, say: Say) -> None:
        self._folders.data.mkdir(parents=True, exist_ok=True)

    def launch(self) -> None:
        return None

    async def healthy(self) -> bool:
        return self._folders.data.is_dir()


class Objects:
    """A folder that holds objects by their key."""

    name = "objects"
    variable = "OBJECT_STORE_URL"

    def __init__(self, folders: Folders) -> None:
        self._folders = folders

    @property
    def address(self) -> str:
        return self._folders.data.as_uri()

    def prepare(self, say: Say) -> None:
        self._folders.data.mkdir(parents=True, exist_ok=True)

    def launch(self) -> None:
        return None

    async def healthy(self) -> bool:
        return self._folders.data.is_dir()
