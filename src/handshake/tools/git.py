"""Git: runs git on a repository of the runtime's own, with nothing of anybody's configuration.

The repository of the user lends its objects and is never the one that git is pointed at: its configuration, hooks and
attributes are not read, so that no monitor, filter, driver, helper or editor of theirs is started.

Source:
    capability.path.runtime_folder_closed (02 §1: the runtime's own git runs with hooks and fsmonitor off).
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from handshake.kernel.errors import StoreFailed, Unsupported
from handshake.kernel.settings import GIT_LIMIT_S, MAX_GIT_OUTPUT_BYTES

OLDEST = (2, 38)
"""The first git that merges trees without a worktree."""
NO_ATTRIBUTES = "* -text !eol !filter !ident !working-tree-encoding !merge !diff !export-subst\n"
"""Overrules whatever a repository says of its files: contents are bytes."""
_VERSION = re.compile(rb"git version ([0-9]+)\.([0-9]+)")
_SETTINGS = {
    "core.hooksPath": os.devnull,
    "core.fsmonitor": "false",
    "core.untrackedCache": "false",
    "core.autocrlf": "false",
    "core.symlinks": "true",
    "core.fileMode": "true",
    "core.attributesFile": os.devnull,
    "core.excludesFile": os.devnull,
    "credential.helper": "",
    "protocol.allow": "never",
    "submodule.recurse": "false",
    "gc.auto": "0",
    "maintenance.auto": "false",
    "merge.renames": "false",
    "merge.directoryRenames": "false",
    "commit.gpgSign": "false",
    "index.version": "2",
    "core.splitIndex": "false",
    "index.sparse": "false",
}
_NOBODY = {
    f"GIT_{who}_{what}": value
    for who in ("AUTHOR", "COMMITTER")
    for what, value in (("NAME", "handshake"), ("EMAIL", "handshake@localhost"), ("DATE", "1970-01-01T00:00:00Z"))
}


class Git:
    """Runs git on one repository of the runtime's own.

    Args:
        folder: the repository; `create` makes it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._program: str | None = None

    async def create(self, lender: Path, exclude: str) -> None:
        """Make the repository, which borrows objects from the folder `lender` and ignores what `exclude` says."""
        self.folder.mkdir(mode=0o700, parents=True)
        await self.run(("init", "--quiet", "--bare", "--template=", str(self.folder)), bare=True)
        (self.folder / "config").write_text("[core]\n\trepositoryformatversion = 0\n\tbare = false\n")
        info = self.folder / "info"
        info.mkdir(exist_ok=True)
        (info / "attributes").write_text(NO_ATTRIBUTES)
        (info / "exclude").write_text(exclude)
        lent = self.folder / "objects" / "info"
        lent.mkdir(parents=True, exist_ok=True)
        (lent / "alternates").write_bytes(os.fsencode(lender) + b"\n")

    async def run(
        self,
        arguments: Sequence[str],
        *,
        work_tree: Path | None = None,
        index: Path | None = None,
        stdin: bytes = b"",
        accepted: Sequence[int] = (0,),
        bare: bool = False,
    ) -> tuple[int, bytes]:
        """Return exit code and output of a git command.

        Args:
            arguments: the command and its arguments.
            work_tree: the files that it is about.
            index: the index that it reads and writes.
            stdin: what it is told.
            accepted: exit codes that are answers.
            bare: whether there is no repository yet.

        Raises:
            StoreFailed: it failed, took longer than `GIT_LIMIT_S`, or said more than `MAX_GIT_OUTPUT_BYTES`.
            Unsupported: there is no git, or it is too old.
        """
        program = self._program or await self._find()
        settings = [part for name, value in _SETTINGS.items() for part in ("-c", f"{name}={value}")]
        variables = {} if bare else {"GIT_DIR": str(self.folder)}
        if work_tree is not None:
            variables["GIT_WORK_TREE"] = str(work_tree)
        if index is not None:
            variables["GIT_INDEX_FILE"] = str(index)
        words = (program, *settings, *arguments)
        return await self._finished(words, work_tree or self.folder, variables, stdin, accepted)

    async def _finished(
        self, words: Sequence[str], cwd: Path, variables: Mapping[str, str], stdin: bytes, accepted: Sequence[int]
    ) -> tuple[int, bytes]:
        try:
            process = await asyncio.create_subprocess_exec(
                *words,
                # a command that reads nothing may have ended before it could be told nothing
                stdin=asyncio.subprocess.PIPE if stdin else asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                cwd=cwd,
                env=self._environment(variables),
                start_new_session=True,
            )
        except OSError as failure:
            raise StoreFailed(reason="git_does_not_start", errno=failure.errno) from failure
        try:
            async with asyncio.timeout(GIT_LIMIT_S):
                output, _ = await process.communicate(stdin or None)
        except TimeoutError:
            raise StoreFailed(reason="git_takes_too_long", limit_s=GIT_LIMIT_S) from None
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode not in accepted:
            raise StoreFailed(reason="git_failed", exit_code=process.returncode or 0, command=words[-1][:40])
        if len(output) > MAX_GIT_OUTPUT_BYTES:
            raise StoreFailed(reason="git_says_too_much", limit_bytes=MAX_GIT_OUTPUT_BYTES)
        return process.returncode or 0, output

    def _environment(self, variables: Mapping[str, str]) -> dict[str, str]:
        """Return all that git is told: nothing of the caller's environment."""
        return {
            "PATH": os.defpath,
            "HOME": str(self.folder),
            "LC_ALL": "C",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_ATTR_NOSYSTEM": "1",
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_OPTIONAL_LOCKS": "0",
            "GIT_NO_REPLACE_OBJECTS": "1",
            "GIT_NO_LAZY_FETCH": "1",
            "GIT_LITERAL_PATHSPECS": "1",
            "GIT_EDITOR": "false",
            "GIT_PAGER": "cat",
            **_NOBODY,
            **variables,
        }

    async def _find(self) -> str:
        program = shutil.which("git", path=os.defpath) or shutil.which("git")
        if program is None or not os.path.isabs(program):
            raise Unsupported(field="git", reason="not_installed", hint="install git 2.38 or newer")
        _, told = await self._finished((program, "--version"), self.folder.parent, {}, b"", (0,))
        version = _VERSION.match(told)
        if version is None or (int(version[1]), int(version[2])) < OLDEST:
            raise Unsupported(field="git", reason="too_old", hint="install git 2.38 or newer")
        self._program = program
        return program
