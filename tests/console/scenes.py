"""Messages as a busy platform sends them."""

import time

from tests.console.stage import Document, Stage, rfc3339

DESTINATIONS = (
    "example.org/launch",
    "example.org/tickets",
    "docs.example.org/start",
    "example.org/jobs",
    "shop.example.org/new",
    "example.org/blog",
)
CODES = ("launch", "tkt26ab", "G7hQx2a", "jobs", "w3ShopN", "k9PbLog")
COUNTS = (21_408, 3_127, 1_566, 702, 318, 64)


def curve(peak: int) -> list[str]:
    """Sixty seconds: calm, a steep rise, a plateau that breathes."""
    rise = [min(1.0, max(0.03, (second - 22) / 12)) for second in range(60)]
    return [str(int(peak * part * (1 + 0.06 * ((second * 7) % 5 - 2)))) for second, part in enumerate(rise)]


def viral(stage: Stage) -> None:
    """One link goes viral; all books agree."""
    stored = 1_284_906
    series = curve(2_778)
    stage.metrics = {
        "eventsPerSecond": series,
        "events": series[-1],
        "users": "2104",
        "topItems": [{"item": str(70 + n), "kind": "click", "events": str(count)} for n, count in enumerate(COUNTS)],
        "freshnessMs": "84",
        "windowEvents": "27185",
        "windowBots": "1902",
        "windowSeconds": 60,
        "stored": str(stored),
    }
    rollups = ("Second", "Minute", "Hour", "DeviceHour", "ItemMinute", "ItemHour")
    sums = ("accepted", "stored", *(f"rollup{name}" for name in rollups), "totals")
    stage.balance = {**dict.fromkeys(sums, str(stored)), "duplicates": "3"}
    stage.links = [
        {
            "name": f"links/{70 + n}",
            "code": code,
            "shortUrl": f"https://go.example.org/{code}",
            "destination": f"https://{where}",
        }
        for n, (code, where) in enumerate(zip(CODES, DESTINATIONS, strict=True))
    ]
    stage.upstreams = {
        "processes": processes(),
        "upstreams": [_module(name) for name in ("analytics", "identity", "links", "live", "tenancy", "writer")],
    }


def processes() -> list[Document]:
    """Engines and modules, one of them just back from a crash."""
    table = (
        ("kafka", 0, 612),
        ("postgres", 0, 94),
        ("valkey", 0, 21),
        ("gateway", 1, 118),
        ("links", 0, 101),
        ("live", 0, 164),
        ("writer", 1, 498),
    )
    return [
        {
            "name": name,
            "state": "ready",
            "pid": 4100 + n,
            "restarts": restarts,
            "residentBytes": str(megabytes * 1_000_000),
            "startTime": _started(restarts),
        }
        for n, (name, restarts, megabytes) in enumerate(table)
    ]


def _started(restarts: int) -> str:
    return rfc3339(time.time() - (42 if restarts else 754))


def _module(name: str) -> Document:
    return {"module": name, "health": "SERVING", "latencyMs": 2}
