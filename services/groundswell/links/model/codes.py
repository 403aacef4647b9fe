"""Codes: unguessable without a round trip, and never twice.

A generated code is a sequence number seen through a keyed permutation of all codes of its length. Different numbers give different
codes by construction, so nothing is read before an insert, and who does not hold the key sees no order in them. The permutation is a
Feistel network over the next power of four with cycle walking (Black and Rogaway, "Ciphers with Arbitrary Finite Domains", 2002).
"""

import hashlib
import re
import string
from pathlib import Path

import xxhash

from groundswell.links import errors

ALPHABET = string.digits + string.ascii_lowercase + string.ascii_uppercase
LENGTH_MIN, LENGTH_DEFAULT, LENGTH_MAX = 6, 7, 8
SHARDS = 8192
ROUNDS = 10

_CODE = re.compile(r"[A-Za-z0-9_-]{3,64}")
_PARTS = re.compile(r"[_-]+")


class Permutation:
    """A keyed bijection of 0 … `size` - 1; `key` has up to 64 bytes."""

    def __init__(self, size: int, key: bytes) -> None:
        self._size = size
        self._half_bits = max(1, ((size - 1).bit_length() + 1) // 2)
        self._mask = (1 << self._half_bits) - 1
        self._rounds = [hashlib.blake2b(bytes([number]), key=key, digest_size=8) for number in range(ROUNDS)]

    def __call__(self, number: int) -> int:
        """The image of `number`. It walks on while it is outside, fewer than four steps on average."""
        if not 0 <= number < self._size:
            raise ValueError(f"{number} is not in 0 … {self._size - 1}")
        number = self._step(number)
        while number >= self._size:
            number = self._step(number)
        return number

    def _step(self, number: int) -> int:
        left, right = number >> self._half_bits, number & self._mask
        for keyed in self._rounds:
            mixed = keyed.copy()
            mixed.update(right.to_bytes(8, "big"))
            left, right = right, left ^ (int.from_bytes(mixed.digest(), "big") & self._mask)
        return left << self._half_bits | right


def count(length: int) -> int:
    """How many codes have `length` characters."""
    return int(len(ALPHABET) ** length)


def spelled(number: int, length: int) -> str:
    """`number` as a code of `length` characters."""
    letters = []
    for _ in range(length):
        number, digit = divmod(number, len(ALPHABET))
        letters.append(ALPHABET[digit])
    return "".join(reversed(letters))


def checked_length(length: int) -> int:
    """`length`, or the default for 0; raises `CodeLengthInvalid`."""
    if length == 0:
        return LENGTH_DEFAULT
    if not LENGTH_MIN <= length <= LENGTH_MAX:
        raise errors.CodeLengthInvalid(LENGTH_MIN, LENGTH_MAX)
    return length


def is_code(text: str) -> bool:
    """Whether `text` has the shape of a code; what has not is never looked up."""
    return _CODE.fullmatch(text) is not None


def checked_own(code: str) -> str:
    """A code of the caller's own, when it may be one; raises `CodeInvalid`, `CodeReserved` or `CodeProfane`."""
    if not is_code(code):
        raise errors.CodeInvalid
    if code.casefold() in RESERVED:
        raise errors.CodeReserved(code)
    # Whole words only: refusing every name that happens to hold four letters would refuse Scunthorpe.
    if not PROFANE.isdisjoint(_PARTS.split(code.casefold())):
        raise errors.CodeProfane
    return code


def presentable(code: str) -> bool:
    """Whether a generated code may be given out. Skipping one costs nothing, so a bad word anywhere in it is enough."""
    folded = code.casefold()
    return folded not in RESERVED and not any(word in folded for word in PROFANE)


def shard_of(domain: int, code: str) -> int:
    """The logical shard of a link, 0 to 8191; it never changes, because domain and code never do."""
    return xxhash.xxh3_64_intdigest(f"{domain}:{code}".encode()) % SHARDS


def shard_of_owner(owner: str) -> int:
    """The logical shard of an owner's lists."""
    return xxhash.xxh3_64_intdigest(owner.encode()) % SHARDS


def _words(file: str) -> frozenset[str]:
    lines = (Path(__file__).parent / file).read_text().splitlines()
    return frozenset(line for line in lines if line and not line.startswith("#"))


RESERVED = _words("reserved.txt")
"""First path segments of all other routes of the platform."""
PROFANE = _words("profane.txt")
