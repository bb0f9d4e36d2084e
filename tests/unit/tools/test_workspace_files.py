from __future__ import annotations

import asyncio
import base64
import hashlib
import os
import shutil
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

from handshake.kernel.settings import (
    MAX_FILE_THREADS,
    MAX_FOUND_LINE_CHARS,
    MAX_PATTERN_LINE_CHARS,
    MAX_TOOL_FILE_BYTES,
)
from handshake.kernel.tools import files
from handshake.ports.tool import Reach, ToolFailed, ToolResult
from handshake.tools.workspace_files import WorkspaceFiles
from tests.requirement import requirement
from tests.unit.tools.one_call import a_pass, called, context

DEFINED = {one.tool_id: one for one in files.DEFINITIONS}
EVERYTHING = Reach(read=("**",), write=("**",))
Call = Callable[..., Awaitable[ToolResult]]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "workspace"
    for name in ("src/deep", "docs", "secret", ".handshake", ".git/hooks"):
        (folder / name).mkdir(parents=True)
    (folder / "src" / "a.py").write_text("import os\n\ndef first():\n    return 1\n")
    (folder / "src" / "deep" / "b.py").write_text("def second():\n    return 2\n")
    (folder / "docs" / "read.md").write_text("# Größe\nDef of first\n")
    (folder / "secret" / "key").write_text("def hidden\n")
    (folder / ".handshake" / "config.toml").write_text("def runtime\n")
    (folder / ".git" / "config").write_text("def git\n")
    return folder


@pytest.fixture
async def tool() -> AsyncIterator[WorkspaceFiles]:
    one = WorkspaceFiles(trusted=("docs",))
    yield one
    await one.close()


@pytest.fixture
def call(tool: WorkspaceFiles, root: Path) -> Call:
    async def one(tool_id: str, args: Mapping[str, Any], reach: Reach = EVERYTHING, **limits: int) -> ToolResult:
        return await called(tool, DEFINED[tool_id], args, context(str(root), reach, **limits))

    return one


async def refused(calling: Awaitable[ToolResult]) -> str:
    with pytest.raises(ToolFailed) as failure:
        await calling
    return failure.value.code


async def outcome(calling: Awaitable[ToolResult]) -> str:
    try:
        await calling
    except ToolFailed as failure:
        return failure.code
    return "done"


def contents(root: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


# ── read ──────────────────────────────────────────────────────────────────────────────────────────────────


async def test_text_is_read_by_lines(call: Call, root: Path) -> None:
    data = (root / "src" / "a.py").read_bytes()
    whole = await call(files.READ, {"path": "./src/a.py"})
    assert whole.value == {
        "path": "src/a.py",
        "content": data.decode(),
        "encoding": "utf-8",
        "size_bytes": len(data),
        "sha256": sha256(data),
        "first_line": 1,
    }
    assert whole.touched.files == ("src/a.py",)
    part = await call(files.READ, {"path": "src/a.py", "first_line": 3, "max_lines": 1})
    assert (part.value["content"], part.value["next_line"]) == ("def first():\n", 4)
    beyond = await call(files.READ, {"path": "src/a.py", "first_line": 99})
    assert beyond.value["content"] == ""
    assert "next_line" not in beyond.value


@pytest.mark.parametrize(
    "text", ["", "\n", "a", "a\n", "a\nb", "\n\n", "ä\r\nö\r\n", "\U0001f600" * 50 + "\n" + "x" * 90]
)
async def test_parts_of_a_text_put_together_are_the_text(call: Call, root: Path, text: str) -> None:
    (root / "src" / "text").write_bytes(text.encode())
    got, line = "", 1
    for _ in range(20):
        part = await call(files.READ, {"path": "src/text", "first_line": line, "max_lines": 1})
        got += part.value["content"]
        if "next_line" not in part.value:
            break
        line = part.value["next_line"]
    assert got == text


async def test_a_result_stays_within_its_bound_however_it_is_written_as_json(call: Call, root: Path) -> None:
    (root / "src" / "control").write_bytes(b"\x01" * 50_000)
    (root / "src" / "lines").write_text("a line with some words\n" * 5_000)
    (root / "src" / "bytes").write_bytes(os.urandom(50_000))
    for args in (
        {"path": "src/control"},
        {"path": "src/lines", "max_lines": 5_000},
        {"path": "src/bytes", "encoding": "base64"},
    ):
        result = await call(files.READ, args, max_result_bytes=20_000)
        assert len(msgspec.json.encode(result.value)) <= 20_000
        assert "next_line" in result.value or "next_offset_bytes" in result.value or "line_is_cut" in result.value


async def test_bytes_are_read_in_ranges(call: Call, root: Path) -> None:
    data = bytes(range(256)) * 100
    (root / "src" / "data").write_bytes(data)
    assert await refused(call(files.READ, {"path": "src/data"})) == "HSK-400-INVALID-REQUEST"
    got, offset = b"", 0
    for _ in range(20):
        args = {"path": "src/data", "encoding": "base64", "offset_bytes": offset}
        part = await call(files.READ, args, max_result_bytes=8_192)
        got += base64.b64decode(part.value["content"])
        if "next_offset_bytes" not in part.value:
            break
        offset = part.value["next_offset_bytes"]
    assert got == data


async def test_a_huge_file_is_read_in_ranges_only(call: Call, root: Path) -> None:
    with (root / "src" / "huge").open("wb") as file:
        file.truncate(MAX_TOOL_FILE_BYTES + 1)
    assert await refused(call(files.READ, {"path": "src/huge"})) == "HSK-413-TOO-LARGE"
    part = await call(files.READ, {"path": "src/huge", "encoding": "base64", "offset_bytes": MAX_TOOL_FILE_BYTES})
    assert part.value["content"] == base64.b64encode(b"\x00").decode()


@requirement("capability.path.no_escape")
async def test_only_what_the_grants_reach_is_read(call: Call, root: Path) -> None:
    (root / "src" / "alias").symlink_to("../secret/key")
    only = Reach(read=("src/**",))
    for path in ("secret/key", "src/alias", "../x", "/etc/hostname", "src/../secret/key", "SRC/a.py"):
        assert await refused(call(files.READ, {"path": path}, only)) in (
            "HSK-403-CAPABILITY",
            "HSK-400-INVALID-REQUEST",
            "HSK-404-NOT-FOUND",
        )
    assert await refused(call(files.READ, {"path": "src/a.py"}, Reach())) == "HSK-403-CAPABILITY"


async def test_content_counts_as_trusted_only_from_trusted_files(call: Call) -> None:
    assert (await call(files.READ, {"path": "docs/read.md"})).is_trusted
    assert not (await call(files.READ, {"path": "src/a.py"})).is_trusted
    assert (await call(files.SEARCH, {"query": "first", "glob": "docs/**"})).is_trusted
    assert not (await call(files.SEARCH, {"query": "first", "glob": "**"})).is_trusted
    assert not (await call(files.LIST, {"glob": "docs/**"})).is_trusted


async def test_nothing_is_trusted_where_sessions_write_into_the_same_files(call: Call, root: Path) -> None:
    shutil.rmtree(root / ".git")
    assert not (await call(files.READ, {"path": "docs/read.md"})).is_trusted


# ── list ──────────────────────────────────────────────────────────────────────────────────────────────────


def paths(result: ToolResult) -> list[str]:
    return [entry["path"] for entry in result.value["entries"]]


async def test_a_glob_is_listed_in_order(call: Call, root: Path) -> None:
    (root / "src" / "link").symlink_to("../secret")
    everything = await call(files.LIST, {"glob": "src/**"})
    assert [(one["path"], one["kind"]) for one in everything.value["entries"]] == [
        ("src/a.py", "file"),
        ("src/deep", "folder"),
        ("src/deep/b.py", "file"),
        ("src/link", "link"),
    ]
    assert paths(await call(files.LIST, {"glob": "src/*"})) == ["src/a.py", "src/deep", "src/link"]
    assert paths(await call(files.LIST, {"glob": "**/*.py"})) == ["src/a.py", "src/deep/b.py"]
    assert paths(await call(files.LIST, {"glob": "src/a.py"})) == ["src/a.py"]
    assert paths(await call(files.LIST, {"glob": "*"})) == [".git", "docs", "secret", "src"]
    assert paths(await call(files.LIST, {"glob": "src/link/*"}, Reach(read=("src/**",)))) == []


async def test_what_is_not_granted_or_closed_is_not_listed(call: Call) -> None:
    found = paths(
        await call(files.LIST, {"glob": "**"}, Reach(read=("src/*", ".git/**", ".handshake/**", "../**", "")))
    )
    assert found == [".git", "src/a.py", "src/deep"]


async def test_a_listing_says_when_there_is_more(call: Call, root: Path) -> None:
    for number in range(50):
        (root / "docs" / f"{number:03}").write_text("")
    few = await call(files.LIST, {"glob": "docs/*", "max_entries": 10})
    assert (len(paths(few)), few.value["cut_by"]) == (10, "entries")
    small = await call(files.LIST, {"glob": "docs/*"}, max_result_bytes=4_096)
    assert small.value["cut_by"] == "size"
    assert len(msgspec.json.encode(small.value)) <= 4_096


# ── search ────────────────────────────────────────────────────────────────────────────────────────────────


def lines(result: ToolResult) -> list[tuple[str, int, str]]:
    return [(one["path"], one["line"], one["text"]) for one in result.value["lines"]]


async def test_lines_are_found_in_order(call: Call) -> None:
    found = await call(files.SEARCH, {"query": "def ", "glob": "src/**"})
    assert lines(found) == [("src/a.py", 3, "def first():"), ("src/deep/b.py", 1, "def second():")]
    assert (found.value["files_count"], found.value["skipped_count"]) == (2, 0)
    regex = await call(files.SEARCH, {"query": r"^def \w+t\(", "glob": "**/*.py", "is_regex": True})
    assert lines(regex) == [("src/a.py", 3, "def first():")]
    folded = await call(files.SEARCH, {"query": "DEF OF", "glob": "docs/*", "ignore_case": True})
    assert lines(folded) == [("docs/read.md", 2, "Def of first")]


@pytest.mark.parametrize("query", [".", "a+b", "(x", "[x]", "\\d", "^$", "{2}", "a|b", "*", "#&~-/ ", "ä.", "?"])
async def test_a_literal_query_means_itself_also_without_case(call: Call, root: Path, query: str) -> None:
    (root / "src" / "text").write_text(f"nothing\nxx{query.upper()}yy\n")
    found = await call(files.SEARCH, {"query": query, "glob": "src/text", "ignore_case": True})
    assert [line for _, line, _ in lines(found)] == [2]


async def test_nothing_beyond_the_reach_is_searched(call: Call, root: Path) -> None:
    (root / "src" / "alias").symlink_to("../secret/key")
    os.link(root / ".handshake" / "config.toml", root / "src" / "hard")
    found = await call(files.SEARCH, {"query": "def", "glob": "**"}, Reach(read=("src/**", "docs/**")))
    assert {path for path, _, _ in lines(found)} == {"src/a.py", "src/deep/b.py"}


@pytest.mark.parametrize(
    "query", ["(", "(?=a)b", r"(a)\1", "a{1000}{1000}", "(?<!x)y", "[ab]*a[ab]{3000}c", r"(\p{L}{1,90}\s){1,90}z"]
)
async def test_a_pattern_without_linear_time_is_refused(call: Call, query: str) -> None:
    assert (
        await refused(call(files.SEARCH, {"query": query, "glob": "**", "is_regex": True})) == "HSK-400-INVALID-REQUEST"
    )


async def test_patterns_that_make_others_backtrack_end_at_once(call: Call, root: Path) -> None:
    (root / "src" / "trap").write_text("a" * 200_000 + "b\n")
    for query in ("(a+)+$", "(a|a)*c", "(a*)*c", "(?:a?){60}a{60}c", "(.*a){12}c"):
        found = await call(files.SEARCH, {"query": query, "glob": "src/trap", "is_regex": True})
        assert lines(found) == []


async def test_a_pattern_looks_at_the_beginning_of_a_long_line(call: Call, root: Path) -> None:
    (root / "src" / "wide").write_text("x" * MAX_PATTERN_LINE_CHARS + "needle\n" + "x" * 100 + "needle\n")
    found = await call(files.SEARCH, {"query": "need[l]e", "glob": "src/wide", "is_regex": True})
    assert [line for _, line, _ in lines(found)] == [2]
    assert len((await call(files.SEARCH, {"query": "needle", "glob": "src/wide"})).value["lines"]) == 2


async def test_binary_huge_and_long_lined_files(call: Call, root: Path) -> None:
    (root / "src" / "binary").write_bytes(b"def\x00def")
    with (root / "src" / "huge").open("wb") as file:
        file.truncate(MAX_TOOL_FILE_BYTES + 1)
    (root / "src" / "odd").write_bytes(b"\xff\xfe odd def\n")
    (root / "src" / "wide").write_text("x" * 10_000 + "needle" + "y" * 10_000 + "\n")
    os.mkfifo(root / "src" / "pipe")
    found = await call(files.SEARCH, {"query": "def", "glob": "src/*"})
    assert [path for path, _, _ in lines(found)] == ["src/a.py", "src/odd"]
    assert found.value["skipped_count"] == 2
    wide = (await call(files.SEARCH, {"query": "needle", "glob": "src/wide"})).value["lines"][0]
    assert wide["is_cut"]
    assert "needle" in wide["text"]
    assert len(wide["text"]) == MAX_FOUND_LINE_CHARS


async def test_a_search_says_when_there_is_more(call: Call, root: Path) -> None:
    (root / "src" / "many").write_text("needle in a line\n" * 1_000)
    few = await call(files.SEARCH, {"query": "needle", "glob": "src/many", "max_lines": 3})
    assert (len(few.value["lines"]), few.value["cut_by"]) == (3, "lines")
    small = await call(
        files.SEARCH, {"query": "needle", "glob": "src/many", "max_lines": 1_000}, max_result_bytes=8_192
    )
    assert small.value["cut_by"] == "size"
    assert len(msgspec.json.encode(small.value)) <= 8_192


# ── write ─────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_file_is_made_and_replaced_only_as_said(call: Call, root: Path) -> None:
    path = root / "src" / "new" / "x"
    made = await call(files.WRITE, {"path": "src/new/x", "content": "one"})
    assert made.value == {"path": "src/new/x", "sha256": sha256(b"one"), "size_bytes": 3, "created": True}
    assert await refused(call(files.WRITE, {"path": "src/new/x", "content": "two"})) == "HSK-409-CONFLICT"
    assert path.read_text() == "one"
    other = {"path": "src/new/x", "content": "two", "expected_sha256": sha256(b"other")}
    assert await refused(call(files.WRITE, other)) == "HSK-409-CONFLICT"
    assert await refused(call(files.WRITE, {**other, "path": "src/none"})) == "HSK-409-CONFLICT"
    await call(files.WRITE, {"path": "src/new/x", "content": "two", "expected_sha256": sha256(b"one")})
    assert path.read_text() == "two"
    await call(files.WRITE, {"path": "src/new/x", "content": "/wA=", "encoding": "base64", "overwrite": True})
    assert path.read_bytes() == b"\xff\x00"


@pytest.mark.parametrize(
    "args",
    [
        {"content": "not base64", "encoding": "base64"},
        {"content": "\ud800"},
    ],
)
async def test_content_that_is_not_what_it_says_is_refused(call: Call, root: Path, args: dict[str, str]) -> None:
    tool_args = {"path": "src/new", **args}
    with pytest.raises((ToolFailed, ValueError)):
        await call(files.WRITE, tool_args)
    assert not (root / "src" / "new").exists()


@requirement("capability.path.no_escape")
async def test_nothing_is_written_beyond_the_reach(call: Call, root: Path) -> None:
    (root / "src" / "out").symlink_to("../secret")
    only = Reach(read=("**",), write=("src/*", ".git/**", ".handshake/**"))
    for path in ("docs/x", "src/out/x", "src/deep/x", ".git/hooks/x", ".git/config", ".handshake/x", "../x", "src/x\n"):
        assert await refused(call(files.WRITE, {"path": path, "content": "x", "overwrite": True}, only)) in (
            "HSK-403-CAPABILITY",
            "HSK-400-INVALID-REQUEST",
        )
    assert sorted(os.listdir(root / "secret")) == ["key"]


# ── patch ─────────────────────────────────────────────────────────────────────────────────────────────────


async def test_files_are_patched_together(call: Call, root: Path) -> None:
    result = await call(
        files.PATCH,
        {
            "changes": [
                {"path": "src/a.py", "replacements": [{"old": "return 1", "new": "return 11"}]},
                {"path": "src/deep/b.py", "diff": "@@ -1,2 +1,2 @@\n def second():\n-    return 2\n+    return 22\n"},
            ]
        },
    )
    assert (root / "src" / "a.py").read_text() == "import os\n\ndef first():\n    return 11\n"
    assert (root / "src" / "deep" / "b.py").read_text() == "def second():\n    return 22\n"
    assert [one["path"] for one in result.value["files"]] == ["src/a.py", "src/deep/b.py"]
    assert result.touched.files == ("src/a.py", "src/deep/b.py")
    assert result.is_trusted


@pytest.mark.parametrize(
    "change",
    [
        {"path": "src/deep/b.py", "replacements": [{"old": "return 3", "new": ""}]},
        {"path": "src/deep/b.py", "replacements": [{"old": "e", "new": ""}]},
        {"path": "src/deep/b.py", "diff": "@@ -1 +1 @@\n-def third():\n+x\n"},
        {"path": "src/deep/b.py", "diff": "nonsense"},
        {"path": "src/deep/b.py"},
        {"path": "src/deep/b.py", "diff": "@@ -1 +1 @@\n-a\n+b\n", "replacements": [{"old": "a", "new": "b"}]},
        {"path": "src/deep/b.py", "replacements": [{"old": "2", "new": "3"}], "expected_sha256": "0" * 64},
        {"path": "src/none", "replacements": [{"old": "a", "new": "b"}]},
        {"path": "src/binary", "replacements": [{"old": "a", "new": "b"}]},
        {"path": "./src/a.py", "replacements": [{"old": "1", "new": "2"}]},
        {"path": "secret/key", "replacements": [{"old": "def", "new": "b"}]},
    ],
)
async def test_a_change_that_does_not_fit_changes_nothing(call: Call, root: Path, change: dict[str, Any]) -> None:
    (root / "src" / "binary").write_bytes(b"a\xff")
    before = contents(root)
    first = {"path": "src/a.py", "replacements": [{"old": "return 1", "new": "return 11"}]}
    with pytest.raises(ToolFailed):
        await call(files.PATCH, {"changes": [first, change]}, Reach(read=("**",), write=("src/**",)))
    assert contents(root) == before


# ── calls ─────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_pass_runs_one_call(tool: WorkspaceFiles, root: Path) -> None:
    one = a_pass(files.READ)
    within = context(str(root), EVERYTHING)
    await tool.run(one, files.READ, {"path": "src/a.py"}, within)
    with pytest.raises(RuntimeError):
        await tool.run(one, files.READ, {"path": "src/a.py"}, within)


async def test_a_cancelled_call_has_ended_when_it_says_so(tool: WorkspaceFiles, root: Path) -> None:
    """Whatever the moment: the file is there whole or not at all, and nothing comes later."""
    for number in range(20):
        args = {"path": f"src/cut{number}", "content": "x" * 100_000}
        async with asyncio.TaskGroup() as group:
            task = group.create_task(tool.run(a_pass(files.WRITE), files.WRITE, args, context(str(root), EVERYTHING)))
            for _ in range(number % 4):
                await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        left = sorted(name for name in os.listdir(root / "src") if name.startswith((".hsk", "cut")))
        assert left in ([], [f"cut{number}"])
        for name in left:
            assert (root / "src" / name).stat().st_size == 100_000
            (root / "src" / name).unlink()


async def test_a_call_that_waits_for_a_thread_is_cancelled_at_once_and_never_carried_out(
    tool: WorkspaceFiles, root: Path
) -> None:
    free = threading.Event()
    held = [tool._threads.submit(free.wait) for _ in range(MAX_FILE_THREADS)]
    args = {"path": "src/never", "content": "x"}
    async with asyncio.TaskGroup() as group:
        task = group.create_task(tool.run(a_pass(files.WRITE), files.WRITE, args, context(str(root), EVERYTHING)))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert not any(one.done() for one in held)
    free.set()
    await tool.run(a_pass(files.READ), files.READ, {"path": "src/a.py"}, context(str(root), EVERYTHING))
    assert not (root / "src" / "never").exists()


async def test_a_call_whose_time_is_over_changes_nothing_or_says_that_there_is_more(call: Call, root: Path) -> None:
    for number in range(300):
        (root / "docs" / f"{number:04}").write_text("needle\n" * 5_000)
    found = await call(files.SEARCH, {"query": "needlE", "glob": "docs/*", "ignore_case": True}, timeout_ms=1)
    assert found.value["cut_by"] in ("time", "lines")
    for number in range(30):
        args = {"path": f"src/late{number}", "content": "x" * 1_000_000}
        code = await outcome(call(files.WRITE, args, timeout_ms=1))
        assert code in ("done", "timeout")
        assert (root / "src" / f"late{number}").exists() == (code == "done")
