"""Values to bytes and back: JSON unless asked otherwise, never code.

What comes out equals what went in, except that tuples come back as lists; a value for which that would
not hold (a date, a set, a dictionary with integer keys) is refused with `TypeError` when it is stored.
A declared type (dataclass, msgspec Struct, pydantic model, containers of them) lifts that: the
value is written and read as that type, and bytes that are not of that type are unreadable.

Pickle runs code when it is read, so it exists only as `SignedPickle`: with a key of the app's, checked
before a byte is unpickled. Whatever cannot be read raises `Unreadable`, which `core` counts as a miss.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import hmac
import importlib
import json
import pickle
import types
import typing
import zlib
from collections.abc import Callable
from functools import partial
from typing import Any, Final, Protocol

from restaurant_otel.caching.entry import COMPRESSED

MOST_BYTES: Final = 64 * 1024 * 1024
"""No payload unpacks to more than this, whatever its compressed form promises."""


class Unreadable(Exception):  # noqa: N818 - an outcome, named as such
    """These bytes are no value of ours: foreign, corrupt, unsigned, of another type or of a later version."""


def _optional(module: str) -> Any:
    """A module that makes things faster or possible where it is installed, else None."""
    try:
        return importlib.import_module(module)
    except ImportError:
        return None


class Codec(Protocol):
    """One way of writing values. `letter` names it in the entry; `name` is the key the value belongs to."""

    letter: int

    def dumps(self, value: Any, name: str) -> bytes:
        """`value` as bytes; TypeError or ValueError if it would not come back as it is."""

    def loads(self, data: bytes, name: str) -> Any:
        """The value; any exception means that it cannot be read."""


# --- JSON --------------------------------------------------------------------------------------------


class Json:
    """JSON by orjson where it is installed, otherwise by the standard library."""

    letter = ord("j")

    def __init__(self) -> None:
        self._dumps: Callable[[Any], bytes] = _plain_json
        self._loads: Callable[[bytes], Any] = json.loads
        orjson = _optional("orjson")
        if orjson is not None:
            # Everything orjson would write but not read back as it was is passed through, hence refused.
            strict = (
                orjson.OPT_PASSTHROUGH_DATACLASS
                | orjson.OPT_PASSTHROUGH_DATETIME
                | orjson.OPT_PASSTHROUGH_SUBCLASS
            )
            dumps = orjson.dumps
            self._dumps, self._loads = (lambda value: bytes(dumps(_exact(value), None, strict))), orjson.loads

    def dumps(self, value: Any, name: str) -> bytes:  # noqa: ARG002 - the protocol's
        """See `Codec`."""
        return self._dumps(value)

    def loads(self, data: bytes, name: str) -> Any:  # noqa: ARG002 - the protocol's
        """See `Codec`."""
        return self._loads(data)


_SCALARS: Final = frozenset((str, int, bool, type(None)))


def _exact(value: Any) -> Any:
    """`value`, if JSON gives it back; floats that JSON has no word for, and keys it would turn to text, are not."""
    kind = type(value)
    if kind in _SCALARS:
        return value
    if kind is float:
        if value != value or value in (float("inf"), float("-inf")):
            raise ValueError(f"JSON has no {value}")
    elif kind is dict:
        for key, item in value.items():
            if type(key) is not str:
                raise TypeError(
                    f"JSON would turn the key {key!r} into text; use text keys, or codec='msgpack'"
                )
            if type(item) not in _SCALARS:
                _exact(item)
    elif kind is list or kind is tuple:
        for item in value:
            if type(item) not in _SCALARS:
                _exact(item)
    else:
        raise TypeError(
            f"a {kind.__qualname__} does not come back from JSON as it is; declare its type, or convert it first"
        )
    return value


def _plain_json(value: Any) -> bytes:
    text = json.dumps(_exact(value), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.encode()


# --- MessagePack, bytes, signed pickle ---------------------------------------------------------------


class MessagePack:
    """MessagePack by msgspec or by msgpack: smaller than JSON, with bytes inside of values."""

    letter = ord("m")

    def __init__(self) -> None:
        msgpack, msgspec = _optional("msgpack"), _optional("msgspec.msgpack")
        self._dumps: Callable[[Any], bytes]
        self._loads: Callable[[bytes], Any]
        if msgpack is not None:
            self._dumps = partial(msgpack.packb, use_bin_type=True)
            self._loads = partial(msgpack.unpackb, raw=False, strict_map_key=False)
        elif msgspec is not None:
            self._dumps, self._loads = _refusing(msgspec.encode), msgspec.decode
        else:
            raise ImportError("codec='msgpack' needs it: pip install msgpack, or msgspec")

    def dumps(self, value: Any, name: str) -> bytes:  # noqa: ARG002 - the protocol's
        """See `Codec`."""
        return self._dumps(value)

    def loads(self, data: bytes, name: str) -> Any:  # noqa: ARG002 - the protocol's
        """See `Codec`."""
        return self._loads(data)


_PACKABLE: Final = (str, int, float, bool, bytes, type(None))


def _refusing(encode: Callable[[Any], bytes]) -> Callable[[Any], bytes]:
    """As msgpack refuses them by itself: msgspec would write dates, sets and dataclasses as something else."""

    def check(value: Any) -> None:
        if isinstance(value, dict):
            for key, item in value.items():
                check(key)
                check(item)
        elif isinstance(value, (list, tuple)):
            for item in value:
                check(item)
        elif not isinstance(value, _PACKABLE):
            raise TypeError(f"a {type(value).__qualname__} does not come back from MessagePack as it is")

    def dumps(value: Any) -> bytes:
        check(value)
        return encode(value)

    return dumps


class Raw:
    """Bytes as they are."""

    letter = ord("b")

    def dumps(self, value: Any, name: str) -> bytes:  # noqa: ARG002 - the protocol's
        """See `Codec`."""
        return bytes(value)

    def loads(self, data: bytes, name: str) -> Any:  # noqa: ARG002 - the protocol's
        """See `Codec`."""
        return data


class SignedPickle:
    """Pickle under HMAC-SHA256. The key's name is signed too: a value moved to another key is not read."""

    letter = ord("p")

    def __init__(self, secret: bytes) -> None:
        if len(secret) < 16:
            raise ValueError(
                "codec='pickle' needs a secret of at least 16 bytes: whoever knows it can run code here"
            )
        self._secret = secret

    def _sign(self, data: bytes, name: str) -> bytes:
        return hmac.digest(self._secret, b"%d:%b" % (len(name), name.encode()) + data, hashlib.sha256)

    def dumps(self, value: Any, name: str) -> bytes:
        """See `Codec`."""
        data = pickle.dumps(value, protocol=5)
        return self._sign(data, name) + data

    def loads(self, data: bytes, name: str) -> Any:
        """See `Codec`."""
        signature, body = data[:32], data[32:]
        if not hmac.compare_digest(signature, self._sign(body, name)):
            raise Unreadable("the signature is not ours")
        return pickle.loads(body)  # noqa: S301 - signed with the app's own secret, checked above


# --- declared types ----------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, slots=True)
class Typed:
    """How one declared type is written and read, as JSON. `shape` changes when the type's own fields do."""

    shape: int
    dumps: Callable[[Any], bytes]
    loads: Callable[[bytes], Any]


_JSON_TYPES: Final = frozenset((None, type(None), Any, object, str, int, float, bool, dict, list, bytes))


@functools.lru_cache(maxsize=1024)
def typed(declared: Any) -> Typed | None:
    """How to write and read `declared`; None where plain JSON gives it back anyway.

    Raises ImportError, naming the package, where nothing installed can do it.
    """
    if _is_plain(declared):
        return None
    shape = zlib.crc32(_describe(declared).encode()) or 1  # 0 says: no declared type
    msgspec, pydantic = _optional("msgspec"), _optional("pydantic")
    if msgspec is not None and not _mentions_pydantic(declared):
        try:
            return Typed(shape, msgspec.json.encode, msgspec.json.Decoder(declared).decode)
        except TypeError:
            pass  # a union, say, that it cannot tell apart; pydantic may
    if pydantic is None:
        raise ImportError(f"to cache {declared!r} by its type: pip install msgspec, or pydantic")
    adapter = pydantic.TypeAdapter(declared)
    return Typed(shape, adapter.dump_json, adapter.validate_json)


def _is_plain(declared: Any) -> bool:
    try:
        if declared in _JSON_TYPES:
            return True
    except TypeError:  # unhashable
        return False
    origin, arguments = typing.get_origin(declared), typing.get_args(declared)
    if origin in (typing.Union, types.UnionType):
        return all(_is_plain(argument) for argument in arguments)
    if origin is list or (origin is dict and arguments[0] is str):
        return arguments[-1] is not bytes and _is_plain(arguments[-1])
    return False


def _mentions_pydantic(declared: Any) -> bool:
    return hasattr(declared, "__pydantic_validator__") or any(
        _mentions_pydantic(argument) for argument in typing.get_args(declared)
    )


def _describe(declared: Any) -> str:
    """The type and, one level deep, its fields: enough to tell a release's model from the next one's."""
    arguments = typing.get_args(declared)
    if arguments:
        return f"{typing.get_origin(declared)!r}[{', '.join(map(_describe, arguments))}]"
    if not isinstance(declared, type):
        return repr(declared)
    fields = getattr(declared, "__annotations__", {})
    return (
        f"{declared.__module__}.{declared.__qualname__}({', '.join(f'{k}: {v}' for k, v in fields.items())})"
    )


# --- all together ------------------------------------------------------------------------------------

_RAW: Final = Raw()
_JSON: Final = Json()


class Packer:
    """Chooses a codec for each value, and compresses what is large.

    `codec` is "json", "msgpack" or "pickle" (which needs `secret`); values of more than `compress_over`
    bytes are deflated where that saves a tenth.
    """

    def __init__(
        self, codec: str = "json", secret: str | bytes | None = None, compress_over: int = 8192
    ) -> None:
        self._readers: dict[int, Codec] = {_RAW.letter: _RAW, _JSON.letter: _JSON}
        if secret is not None:
            pickled = SignedPickle(secret.encode() if isinstance(secret, str) else secret)
            self._readers[pickled.letter] = pickled
        if codec == "json":
            self._codec: Codec = _JSON
        elif codec == "msgpack":
            self._codec = MessagePack()
        elif codec == "pickle":
            if secret is None:
                raise ValueError("codec='pickle' needs secret=: unsigned pickles are never read")
            self._codec = self._readers[SignedPickle.letter]
        else:
            raise ValueError(f"codec is 'json', 'msgpack' or 'pickle', not {codec!r}")
        self._readers[self._codec.letter] = self._codec
        self._compress_over = compress_over

    def pack(self, value: Any, name: str, declared: Any = None) -> tuple[int, int, int, bytes]:
        """`value` as (codec's letter, flags, shape, payload). TypeError or ValueError if it cannot be kept."""
        shape = 0
        pickles = self._codec.letter == SignedPickle.letter  # which keeps every type by itself
        kind = None if declared is None or pickles else typed(declared)
        if kind is not None:
            letter, data, shape = _JSON.letter, kind.dumps(value), kind.shape
        elif type(value) in (bytes, bytearray, memoryview):
            letter, data = _RAW.letter, _RAW.dumps(value, name)
        elif type(value) is int:
            letter, data = _JSON.letter, _JSON.dumps(value, name)  # as digits, which `incr` can count on
        else:
            letter, data = self._codec.letter, self._codec.dumps(value, name)
        if len(data) > MOST_BYTES:
            raise ValueError(f"a value of {len(data)} bytes is too large to cache")
        if len(data) > self._compress_over:
            small = zlib.compress(data, 1)
            if len(small) < len(data) * 0.9:
                return letter, COMPRESSED, shape, small
        return letter, 0, shape, data

    def unpack(
        self, letter: int, flags: int, shape: int, data: bytes, name: str, declared: Any = None
    ) -> Any:
        """The value. Raises Unreadable, and nothing else, whatever the bytes are."""
        try:
            if flags:
                if flags != COMPRESSED:
                    raise Unreadable(f"flags of a later version: {flags}")
                data = _inflate(data)
            kind = typed(declared) if declared is not None and letter == _JSON.letter else None
            if kind is not None:
                if shape not in (0, kind.shape):
                    raise Unreadable("written as another type")
                return kind.loads(data)
            return self._readers[letter].loads(data, name)
        except Unreadable:
            raise
        except Exception as error:  # bytes from a shared store: anything may be wrong with them
            raise Unreadable(f"{type(error).__name__}: {error}") from error


def _inflate(data: bytes) -> bytes:
    inflater = zlib.decompressobj()
    plain = inflater.decompress(data, MOST_BYTES)
    if not inflater.eof or inflater.unused_data:
        raise Unreadable("compressed data cut short, too large, or followed by more")
    return plain
