"""The console's built files, read once: a request finds a file by its exact path or not at all."""

import mimetypes
from dataclasses import dataclass
from pathlib import Path

import xxhash

FILE_BYTES_MAX = 16 << 20
ASSETS = "assets/"
"""Vite names what it puts here by its content."""
POLICY = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; connect-src 'self'; "
    b"manifest-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
_SECURITY = (
    (b"content-security-policy", POLICY),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
)
_ABSENT = b"""<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Groundswell</title>
<h1>Groundswell is running</h1>
<p>The console is not built yet. Build it with <code>make console</code>, then start this process again.</p>
<p>The API is described at <a href="/openapi.json">/openapi.json</a>.</p>
</html>
"""

Header = tuple[bytes, bytes]


@dataclass(frozen=True, slots=True)
class File:
    """One file as it is answered."""

    headers: tuple[Header, ...]
    body: bytes
    etag: bytes


def load(folder: Path) -> dict[bytes, File]:
    """The files under `folder` by path; without an index there is a page at `/` that says how to build it."""
    files: dict[bytes, File] = {}
    root = folder.resolve()
    for path in sorted(root.rglob("*")) if root.is_dir() else ():
        inside = path.resolve().is_relative_to(root)
        if path.is_file() and inside and path.stat().st_size <= FILE_BYTES_MAX:
            name = path.relative_to(root).as_posix()
            files[b"/" + name.encode()] = _file(name, path.read_bytes())
    files[b"/"] = files.get(b"/index.html") or _file("index.html", _ABSENT)
    return files


def _file(name: str, body: bytes) -> File:
    media_type = mimetypes.guess_type(name)[0] or "application/octet-stream"
    if media_type.startswith("text/"):
        media_type += "; charset=utf-8"
    etag = b'"' + xxhash.xxh3_128_hexdigest(body).encode() + b'"'
    cache = b"public, max-age=31536000, immutable" if name.startswith(ASSETS) else b"no-cache"
    headers = ((b"content-type", media_type.encode()), (b"cache-control", cache), (b"etag", etag), *_SECURITY)
    return File(headers, body, etag)
