"""The architecture as a test: who may import whom, what touches the clock or the network, how long a file is."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

import aivc

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "aivc"

MAY_IMPORT: Mapping[str, frozenset[str]] = {  # room -> rooms it may import; a room may always import itself
    "config": frozenset(),
    "logs": frozenset({"config"}),
    "sip": frozenset({"config", "logs"}),
    "media": frozenset({"config", "logs"}),
    "realtime": frozenset({"config", "logs"}),
    "flight": frozenset({"config"}),
    "nursery": frozenset({"config", "logs", "sip", "media", "realtime", "flight"}),
    "testing": frozenset({"config", "logs", "sip", "media", "realtime"}),
    "demo": frozenset({"config", "logs", "sip", "media", "realtime", "testing", "nursery"}),
    "replaying": frozenset({"config", "logs", "sip", "media", "realtime", "testing", "nursery", "flight", "demo"}),
    "admin": frozenset({"config", "logs", "nursery", "demo"}),
    "cli": frozenset({"config", "logs", "nursery", "demo", "flight", "replaying"}),
    "__main__": frozenset({"cli"}),
}
PUBLIC = "__init__.py"  # says what is public, so it may import anything

PURE = frozenset(
    {f"sip/{name}.py" for name in ("scanner", "address", "message", "sdp", "inspection", "negotiation")}
    | {f"sip/{name}.py" for name in ("transaction", "dialog", "info", "referral", "offeranswer", "describing", "sdes")}
    | {f"sip/{name}.py" for name in ("framing", "stateless", "counters", "flow", "amplification", "sources")}
    | {f"sip/{name}.py" for name in ("jsonrpc", "uasession", "invitation", "session_deadlines")}
    | {f"testing/opensips_{name}.py" for name in ("wording", "jsonrpc", "subscribers", "faults")}
    | {f"nursery/{name}.py" for name in ("status", "tally", "metrics", "pages", "statustable")}
    | {"sip/spreading.py", "media/punctuality.py", "realtime/sieve.py"}
    | {"sip/statistics.py", "nursery/admission.py", "realtime/headers.py", "realtime/handover.py"}
    | {f"testing/{name}.py" for name in ("credentials", "refreshing", "refusal", "reports")}
    | {f"sip/{name}.py" for name in ("digest", "authentication", "accounts", "registration")}
    | {
        f"sip/{name}.py"
        for name in (
            "provisional",
            "session_timer",
            "replacing",
            "referred",
            "multipart",
            "fields",
            "ip",
            "reasons",
            "refusals",
        )
    }
    | {f"media/{name}.py" for name in ("rtp", "g711", "reorder", "playout", "pacer", "latching")}
    | {f"media/{name}.py" for name in ("dtmf", "filling", "rtcp", "reports", "counters")}
    | {f"realtime/{name}.py" for name in ("events", "dialects", "decoding", "session", "target", "framing", "errors")}
    | {f"realtime/{name}.py" for name in ("conversation", "effects", "sequencer", "toolcalls", "recent", "schema")}
    | {f"realtime/{name}.py" for name in ("machines", "caller_side", "model_side", "interruption", "items", "setbacks")}
    | {f"realtime/{name}.py" for name in ("patience", "courtesies", "history", "replay", "usage")}
    | {f"realtime/{name}.py" for name in ("turn_detection",)}
    | {f"realtime/{name}.py" for name in ("arguments", "toolerrors", "transfers")}
    | {f"nursery/{name}.py" for name in ("ending", "turns", "record", "cost")}
    | {f"demo/{name}.py" for name in ("recording", "timeline", "report", "wav")}
    | {f"flight/{name}.py" for name in ("entries", "fields", "flightfile", "audio", "tape", "masking", "pseudonyms")}
    | {f"flight/{name}.py" for name in ("sdes", "describing", "recording")}
    | {"sip/watching.py"}
    | {f"replaying/{name}.py" for name in ("names", "sound", "alike", "packets", "appends", "comparing", "entering")}
    | {f"replaying/{name}.py" for name in ("folding", "wording", "ladder")}
    | {f"nursery/{name}.py" for name in ("entries", "gap", "latency")}
    | {"testing/keys.py", "testing/vad.py", "testing/script.py", "testing/wording.py"}
)  # and every file of config/
IMPURE_MODULES = frozenset(
    {"asyncio", "concurrent", "multiprocessing", "os", "random", "secrets", "select", "selectors", "signal", "socket"}
    | {"ssl", "subprocess", "sys", "threading", "time", "trio", "trio_websocket", "uuid"}
)
BANNED_FILES = frozenset(
    {"base", "common", "core", "helper", "helpers", "lib", "manager", "managers", "misc", "shared", "util", "utils"}
)
BANNED_CLASS = re.compile(r"(Manager|Helper|Helpers|Util|Utils|Common|Misc)$")
LONGEST = 400
WORKPLACE = re.compile(r"(?<![\w.~-])/(work|root|home|Users)/")  # a path that exists on one machine only


def imports(tree: ast.AST, *, inside_functions: bool = True) -> Iterator[str]:
    """Dotted names that are imported: `from a.b import c` as `a.b` and `a.b.c`."""
    nodes = ast.walk(tree) if inside_functions else outside_functions(tree)
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level:
            yield "a relative name"
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def outside_functions(node: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield child
            yield from outside_functions(child)


def is_pure(name: str) -> bool:
    return name in PURE or name.startswith("config/")


def import_faults(name: str, tree: ast.AST) -> Iterator[str]:
    room = name.split("/")[0].removesuffix(".py")
    if room not in MAY_IMPORT:
        yield f"{room} is no room that this test knows"
        return
    for imported in imports(tree):
        top, _, rest = imported.partition(".")
        other = rest.split(".")[0]
        if imported == "a relative name":
            yield "imports are absolute, so that one sees the room"
        if room == "cli" and imported.removeprefix("aivc.") in aivc.__all__:
            continue  # the command line is a user of the public names
        if top == "aivc" and other and other != room and other not in MAY_IMPORT[room]:
            yield f"{room} may not import {other}"
        if is_pure(name) and (top in IMPURE_MODULES or (top, other) == ("aivc", "logs")):
            yield f"a pure file may not import {imported}"


def file_faults(name: str, text: str) -> Iterator[str]:
    if Path(name).stem in BANNED_FILES:
        yield "its name says nothing about what lives there"
    if (count := len(text.splitlines())) > LONGEST:
        yield f"{count} lines are more than {LONGEST}"


def code_faults(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef) and BANNED_CLASS.search(node.name):
            yield f"class {node.name}: its name says nothing"
        if isinstance(node, ast.Call) and isinstance(node.func, (ast.Attribute, ast.Name)):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id
            if called == "open_memory_channel":
                yield "write open_memory_channel[T](n): without T the type checker sees Any"
        if isinstance(node, ast.ExceptHandler) and swallows(node):
            yield "an exception is swallowed without a word"


def swallows(handler: ast.ExceptHandler) -> bool:
    """`except:` or `except Exception:` with nothing but `pass`."""
    broad = handler.type is None or (
        isinstance(handler.type, ast.Name) and handler.type.id in ("Exception", "BaseException")
    )
    return broad and all(isinstance(statement, ast.Pass) for statement in handler.body)


def package_faults(package: Path) -> list[str]:
    """Everything wrong in a package laid out like aivc."""
    found = []
    for path in sorted(package.rglob("*.py")):
        name, text = path.relative_to(package).as_posix(), path.read_text()
        tree = ast.parse(text)
        faults = [*file_faults(name, text), *code_faults(tree)]
        if name != PUBLIC:
            faults += import_faults(name, tree)
        found += [f"{name}: {fault}" for fault in dict.fromkeys(faults)]
    return found


def faults_of_tests(tests: Path) -> list[str]:
    """What is wrong in the tests: length, names, channels."""
    found = []
    for path in sorted(tests.rglob("*.py")):
        name, text = path.relative_to(tests).as_posix(), path.read_text()
        found += [f"{name}: {fault}" for fault in (*file_faults(name, text), *code_faults(ast.parse(text)))]
    return found


def cycles(package: Path) -> list[str]:
    """Files that import each other in a ring; an import inside a function, which runs later, closes none."""
    graph = {module_name(package, path): path for path in package.rglob("*.py")}
    edges = {
        name: sorted(set(imports(ast.parse(path.read_text()), inside_functions=False)) & graph.keys() - {name, "aivc"})
        for name, path in graph.items()
    }
    done: set[str] = set()
    found: list[str] = []

    def visit(name: str, trail: tuple[str, ...]) -> None:
        if name in trail:
            found.append(" -> ".join((*trail[trail.index(name) :], name)))
        elif name not in done:
            for other in edges[name]:
                visit(other, (*trail, name))
            done.add(name)

    for name in sorted(graph):
        visit(name, ())
    return found


def module_name(package: Path, path: Path) -> str:
    return ".".join(("aivc", *path.relative_to(package).with_suffix("").parts)).removesuffix(".__init__")


def workplace_paths(root: Path) -> list[str]:
    """Lines that name a path of the machine they were written on."""
    files = [
        path
        for folder in ("aivc", "tests", "docs", "examples", "bench", "deploy")
        for path in (root / folder).rglob("*")
    ]
    found = []
    for path in sorted([*files, *root.glob("*.*"), *root.glob(".*.yaml")]):
        if path.suffix in {".py", ".md", ".toml", ".yaml", ".yml", ".cfg", ".service", ".sh"}:
            lines = enumerate(path.read_text().splitlines(), 1)
            found += [f"{path.relative_to(root)}:{number}" for number, line in lines if WORKPLACE.search(line)]
    return found


# The rules hold


def test_the_package_keeps_its_rules() -> None:
    assert package_faults(PACKAGE) == []


def test_the_tests_keep_theirs() -> None:
    assert faults_of_tests(ROOT / "tests") == []


def test_no_files_import_each_other_in_a_ring() -> None:
    assert cycles(PACKAGE) == []


def test_no_file_names_a_path_of_one_machine() -> None:
    assert workplace_paths(ROOT) == []


def test_every_file_called_pure_exists() -> None:
    assert [name for name in sorted(PURE) if not (PACKAGE / name).is_file()] == []


# The rules bite


@pytest.mark.parametrize(
    ("file", "text", "complaint"),
    [
        ("sip/transaction.py", "import attrs\n", None),
        ("sip/transaction.py", "import trio\n", "a pure file may not import trio"),
        ("sip/transaction.py", "def f():\n    import time\n", "a pure file may not import time"),
        ("media/rtp.py", "from random import randint\n", "a pure file may not import random"),
        ("media/rtp.py", "from aivc import logs\n", "a pure file may not import aivc.logs"),
        ("config/anything.py", "import os.path\n", "a pure file may not import os.path"),
        ("config/loading.py", "from aivc.sip.leg import Leg\n", "config may not import sip"),
        ("media/stream.py", "import trio\nfrom aivc import logs\n", None),
        ("sip/dialog.py", "from aivc.nursery.call import serve_call\n", "sip may not import nursery"),
        ("media/stream.py", "from aivc.realtime import events\n", "media may not import realtime"),
        ("media/stream.py", "import aivc.sip.leg\n", "media may not import sip"),
        ("sip/leg.py", "from .message import Request\n", "imports are absolute"),
        ("nursery/call.py", "from aivc.media.rtp import Packet\n", None),
        ("nursery/call.py", "from aivc.testing.network import Network\n", "nursery may not import testing"),
        ("nursery/call.py", "from aivc import serve_call\n", "nursery may not import serve_call"),
        ("testing/caller.py", "from aivc.nursery.call import serve_call\n", "testing may not import nursery"),
        ("demo/run.py", "from aivc.testing.network import N\nfrom aivc.nursery.call import serve_call\n", None),
        ("cli.py", "from aivc import __version__, logs\nfrom aivc.demo.run import run_demo\n", None),
        ("cli.py", "from aivc.sip.leg import Leg\n", "cli may not import sip"),
        ("__init__.py", "from aivc.sip.leg import Leg\nfrom aivc.nursery.call import serve_call\n", None),
        ("storage/disk.py", "", "storage is no room"),
        ("sip/utils.py", "", "its name says nothing"),
        ("sip/leg.py", "class CallManager: ...\n", "class CallManager: its name says nothing"),
        ("sip/leg.py", "x = 1\n" * 400, None),
        ("sip/leg.py", "x = 1\n" * 401, "401 lines are more than 400"),
        ("media/stream.py", "import trio\na, b = trio.open_memory_channel[int](5)\n", None),
        ("media/stream.py", "import trio\na, b = trio.open_memory_channel(5)\n", "write open_memory_channel[T](n)"),
        ("media/stream.py", "try: f()\nexcept Exception: pass\n", "an exception is swallowed"),
        ("media/stream.py", "try: f()\nexcept: pass\n", "an exception is swallowed"),
        ("media/stream.py", "try: f()\nexcept OSError: pass\n", None),
    ],
)
def test_each_rule_bites(tmp_path: Path, file: str, text: str, complaint: str | None) -> None:
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).write_text(text)
    found = package_faults(tmp_path)
    assert (found == []) if complaint is None else found[0].startswith(f"{file}: {complaint}")


def test_the_rule_against_rings_bites(tmp_path: Path) -> None:
    (tmp_path / "sip").mkdir()
    (tmp_path / "sip" / "a.py").write_text("from aivc.sip.b import x\n")
    (tmp_path / "sip" / "b.py").write_text("from aivc.sip import c\n")
    (tmp_path / "sip" / "c.py").write_text("def f():\n    import aivc.sip.a\n")
    assert cycles(tmp_path) == []
    (tmp_path / "sip" / "c.py").write_text("if True:\n    import aivc.sip.a\n")
    assert cycles(tmp_path) == ["aivc.sip.a -> aivc.sip.b -> aivc.sip.c -> aivc.sip.a"]


def test_the_rules_for_tests_bite(tmp_path: Path) -> None:
    (tmp_path / "helpers.py").write_text("import trio\ntrio.open_memory_channel(1)\n" + "#\n" * LONGEST)
    assert len(faults_of_tests(tmp_path)) == 3


def test_the_rule_against_paths_of_one_machine_bites(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    document = tmp_path / "docs" / "a.md"
    document.write_text("see https://example.com/root/x, docs/home/y, /etc/aivc and ~/home/z\n")
    assert workplace_paths(tmp_path) == []
    for folder in ("work", "home", "root", "Users"):
        document.write_text(f"fine\nsee `/{folder}/me/aivc`\n")
        assert workplace_paths(tmp_path) == ["docs/a.md:2"]
