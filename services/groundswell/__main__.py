"""The command line: `groundswell up`, `down`, `ps`, `logs`, `stop`, `start`, `restart`, `scale`, `dlq`, `fetch`, `prepare`, `proxy-users`,
`run`.

Every failure that a user can mend is one sentence on stderr and exit code 1; a stack trace means a defect of ours. Imports are
local to each command, because a process that runs one module should not load the supervisor, nor the other way round.
"""

from __future__ import annotations

import argparse
import asyncio
import errno
import gc
import json
import logging
import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]  # argparse has no public name for it

PORT_MAX = 65_535
NO_HELPERS = "OPENBLAS_NUM_THREADS", "1"
"""numpy starts threads for linear algebra, which nothing here does, and each spins for a tenth of a second before it sleeps."""
DESCRIPTION = "An event-driven backend for products that can go viral."


def main(arguments: list[str] | None = None) -> int:
    """Runs one command; returns its exit code."""
    options = _parser().parse_args(arguments)
    command: Callable[[argparse.Namespace], int] = options.command
    try:
        return command(options)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader left: `groundswell ps | head -1`
        return 0
    except Exception as error:
        if (sentence := _sentence(error)) is None:
            raise
        print(f"groundswell: {sentence}", file=sys.stderr)
        return 1


def _sentence(error: Exception) -> str | None:
    """What to tell the user; None when the error is no fault of theirs."""
    from groundswell.kernel.errors import Error
    from groundswell.kernel.settings import SettingError

    supervisor = sys.modules.get("groundswell.engines.errors")  # loaded if and only if it could have been raised
    if isinstance(error, SettingError | Error) or (supervisor and isinstance(error, supervisor.SupervisorError)):
        return str(error)
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return f"The disk is full ({error.filename}). Free some space, or choose a folder on another disk with --home."
    if isinstance(error, PermissionError):
        return f"There is no permission to use {error.filename}. Choose a folder of your own with --home, or change its owner."
    return None


def _run(options: argparse.Namespace) -> int:
    gc.disable()  # what a start makes is there to stay; `main.run` sets it going again
    os.environ.setdefault(*NO_HELPERS)
    from groundswell import main

    return main.run(options.modules)


def _prepare(options: argparse.Namespace) -> int:
    from groundswell.engines import preparing, topology

    _silence_client()
    placement = topology.load("all", options.topology_file)
    asyncio.run(preparing.prepare(placement, os.environ, options.wait, partial(print, flush=True)))
    return 0


def _proxy_users(options: argparse.Namespace) -> int:
    from groundswell.engines import commands, home, preparing, topology
    from groundswell.kernel import resources

    key = resources.internal_key(commands.internal_key(home.Home(options.home)))
    print(*preparing.proxy_users(topology.load("all", options.topology_file), key), sep="\n")
    return 0


def _up(options: argparse.Namespace) -> int:
    from groundswell.engines import home, starting

    plan = starting.Plan(options.topology, options.topology_file, options.port)
    return starting.up(home.Home(options.home), plan, foreground=options.foreground)


def _supervise(options: argparse.Namespace) -> int:
    from groundswell.engines import home, starting

    return starting.supervise(
        home.Home(options.home), starting.Plan(options.topology, options.topology_file, options.port)
    )


def _down(options: argparse.Namespace) -> int:
    from groundswell.engines import commands, home

    return commands.down(home.Home(options.home))


def _ps(options: argparse.Namespace) -> int:
    from groundswell.engines import commands, home

    return commands.ps(home.Home(options.home))


def _logs(options: argparse.Namespace) -> int:
    from groundswell.engines import commands, home

    return commands.logs(home.Home(options.home), options.name, follow=options.follow)


def _change(options: argparse.Namespace) -> int:
    from groundswell.engines import commands, home

    return commands.change(home.Home(options.home), options.verb, options.name, dict(getattr(options, "set", [])))


def _scale(options: argparse.Namespace) -> int:
    from groundswell.engines import commands, home

    return commands.scale(home.Home(options.home), options.name, options.replicas)


def _dlq(options: argparse.Namespace) -> int:
    from groundswell.engines import commands, home
    from groundswell.engines.errors import SupervisorError
    from groundswell.kernel import errors
    from groundswell.kernel.bus import dead_letters

    _silence_client()
    kafka = commands.address(home.Home(options.home), "KAFKA_BOOTSTRAP_SERVERS")
    try:
        if options.verb == "redrive":
            print(f"{asyncio.run(dead_letters.redrive(kafka, options.topic))} records went back to {options.topic}.")
            return 0
        for letter in asyncio.run(dead_letters.list_letters(kafka, options.topic)):
            print(json.dumps({name: getattr(letter, name) for name in letter.__slots__}))
    except errors.Error as error:
        raise SupervisorError(error.message) from error
    return 0


def _fetch(options: argparse.Namespace) -> int:
    from groundswell.engines.kafka import Kafka, jars
    from groundswell.engines.rehearsal import rehearse

    _silence_client()
    if not os.environ.get(Kafka.variable):
        jars(print)
        rehearse(print)
    return 0


def _silence_client() -> None:
    """Of a broker that is away, or not there yet, the user hears from us."""
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)


def _setting(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not KEY=VALUE")
    return key, value


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > PORT_MAX:
        raise argparse.ArgumentTypeError(f"{text!r} is no port: a number from 1 to {PORT_MAX}, or 0 for a free one")
    return int(text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="groundswell", description=DESCRIPTION)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_platform(commands)
    _add_parts(commands)
    fetch = commands.add_parser(
        "fetch", help="download what the engines need and no package brings, and rehearse a start"
    )
    fetch.set_defaults(command=_fetch)
    prepare = commands.add_parser("prepare", help="bring databases and topics to this version, before `run` elsewhere")
    prepare.add_argument("--wait", type=float, default=300, metavar="SECONDS", help="how long to wait for the engines")
    _add_topology_file(prepare)
    prepare.set_defaults(command=_prepare)
    meaning = "show the services' roles and passwords as PgBouncer's auth_file wants them"
    _add_topology_file(_add(commands, "proxy-users", meaning, _proxy_users))
    run = commands.add_parser("run", help="run modules in this process")
    run.add_argument("modules", nargs="+", metavar="MODULE", help="a module, or `all`")
    run.set_defaults(command=_run)
    return parser


def _add(
    commands: Commands, name: str, meaning: str, command: Callable[[argparse.Namespace], int]
) -> argparse.ArgumentParser:
    """A command that works on a home folder."""
    from groundswell.engines.home import DEFAULT

    parser = commands.add_parser(name, help=meaning, description=meaning)
    parser.add_argument("--home", type=Path, default=DEFAULT, metavar="DIR", help=f"home folder (default {DEFAULT})")
    parser.set_defaults(command=command, verb=name)
    return parser


def _add_platform(commands: Commands) -> None:
    """The commands for the platform as a whole."""
    up = _add(commands, "up", "start the platform, wait until it is ready", _up)
    where = up.add_mutually_exclusive_group()
    where.add_argument("--foreground", action="store_true", help="stay here until ctrl-C")
    where.add_argument("--detach", action="store_true", help="return when it is ready (the default)")
    for each in (up, _add(commands, "supervise", "be the supervisor of a home (`up` does this for you)", _supervise)):
        each.add_argument(
            "--topology",
            default="all",
            help="which modules share a process: `all` or `each` (one process a module)",
        )
        _add_topology_file(each)
        each.add_argument(
            "--port", type=_port, metavar="N", help="public port (default the last one, at first 8080; 0 a free one)"
        )
    _add(commands, "down", "stop everything", _down)
    _add(commands, "ps", "show what runs", _ps)


def _add_topology_file(command: argparse.ArgumentParser) -> None:
    file = Path(__file__).parent / "engines" / "topology.yaml"
    command.add_argument(
        "--topology-file", type=Path, default=file, metavar="FILE", help="where topologies are described"
    )


def _add_parts(commands: Commands) -> None:
    """The commands for one engine or process."""
    logs = _add(commands, "logs", "show the end of a log", _logs)
    logs.add_argument(
        "name", nargs="?", default="supervisor", metavar="NAME", help="an engine, a process, a module, or `supervisor`"
    )
    logs.add_argument("-f", "--follow", action="store_true", help="go on with what is added")
    for verb, meaning in (
        ("stop", "stop one part; it stays stopped"),
        ("start", "start a stopped part"),
        ("restart", "stop and start one part"),
    ):
        change = _add(commands, verb, meaning, _change)
        change.add_argument("name", metavar="NAME", help="an engine, a process or a module, as `ps` names it")
        if verb != "stop":
            change.add_argument(
                "--set",
                type=_setting,
                action="append",
                default=[],
                metavar="KEY=VALUE",
                help="add a variable (empty VALUE: its default)",
            )
    scale = _add(commands, "scale", "keep so many replicas of one process, until `down`", _scale)
    scale.add_argument("name", metavar="NAME", help="a process or a module, as `ps` names it")
    scale.add_argument("replicas", type=int, metavar="N", help="how many; `ps` shows how many are ready")
    dlq = _add(commands, "dlq", "list dead letters of a topic, or send them back to it", _dlq)
    dlq.add_argument("verb", choices=("list", "redrive"))
    dlq.add_argument("topic", metavar="TOPIC")


if __name__ == "__main__":
    sys.exit(main())
