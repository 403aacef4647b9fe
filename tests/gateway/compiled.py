"""The test's own proto, compiled when the tests start: nothing generated from it is committed, so no code can know it."""

import importlib
import sys
import tempfile
from pathlib import Path
from types import ModuleType

import google.api
from grpc_tools import protoc

import groundswell

HERE = Path(__file__).parent
PROTOS = Path(groundswell.__path__[0]).parents[1] / "protos"
GOOGLE = Path(next(iter(google.api.__path__))).parents[1]
BUILTIN = Path(protoc.__file__).parent / "_proto"


def library() -> tuple[ModuleType, ModuleType]:
    """The modules `library_pb2` and `library_pb2_grpc`."""
    if "library_pb2_grpc" not in sys.modules:
        with tempfile.TemporaryDirectory(prefix="groundswell-library-") as out:
            paths = [f"-I{each}" for each in (HERE, PROTOS, GOOGLE, BUILTIN)]
            code = protoc.main(
                ["protoc", *paths, f"--python_out={out}", f"--grpc_python_out={out}", str(HERE / "library.proto")]
            )
            assert code == 0, "library.proto does not compile"
            sys.path.insert(0, out)
            importlib.import_module("library_pb2_grpc")
            sys.path.remove(out)
    return sys.modules["library_pb2"], sys.modules["library_pb2_grpc"]
