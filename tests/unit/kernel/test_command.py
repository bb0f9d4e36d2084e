from __future__ import annotations

from fnmatch import fnmatchcase

import pytest

from handshake.kernel.command import MAX_NESTING, Destruction, destruction, is_destructive

ROOT = "/home/someone/project"


def in_scope(path: str) -> bool:
    return path == "build" or path.startswith(("build/", "src/"))


def judged(*argv: str, cwd: str = ".") -> Destruction | None:
    return destruction(argv, cwd=cwd, root=ROOT, in_scope=in_scope)


GIT = [
    ("git reset --hard", Destruction.GIT_DISCARDS),
    ("git reset HEAD~3 --hard", Destruction.GIT_DISCARDS),
    ("git reset -q --har origin/main", Destruction.GIT_DISCARDS),
    ("/usr/bin/git -C sub reset --hard", Destruction.GIT_DISCARDS),
    ("git -c user.name=x --no-pager --git-dir=.git reset --hard", Destruction.GIT_DISCARDS),
    ("git --git-dir .git --work-tree . reset --hard", Destruction.GIT_DISCARDS),
    ("git checkout -qf main", Destruction.GIT_DISCARDS),
    ("git switch --discard-changes main", Destruction.GIT_DISCARDS),
    ("git read-tree --reset -u HEAD", Destruction.GIT_DISCARDS),
    ("git clean -fdx", Destruction.GIT_CLEANS),
    ("git clean -d -f", Destruction.GIT_CLEANS),
    ("git clean -fen", Destruction.GIT_CLEANS),
    ("git clean -f --exclude -n", Destruction.GIT_CLEANS),
    ("git clean -f -- -n", Destruction.GIT_CLEANS),
    ("git rebase -i HEAD~2", Destruction.GIT_REWRITES),
    ("git rebase main --interactive", Destruction.GIT_REWRITES),
    ("git rebase --inter main", Destruction.GIT_REWRITES),
    ("git rebase --exec true main", Destruction.GIT_REWRITES),
    ("git nuke", Destruction.GIT_UNKNOWN),
    ("git -c alias.st=!rm status", Destruction.GIT_UNKNOWN),
    ("git -c core.hooksPath=x commit", Destruction.GIT_UNKNOWN),
]
HARMLESS = [
    "git",
    "git status",
    "git --version",
    "git reset --soft HEAD~1",
    "git reset -- hard",
    "git clean -n",
    "git clean -ndx",
    "git rebase main",
    "git checkout main",
    "git commit -m --hard",
    "pytest -q tests/test_hard.py",
    "rm build/old.o",
    "rm -rf build",
    "rm -rf build/a src/gone",
    "rm -fr -- build/cache",
    "rm -rf build/*",
    f"rm -rf {ROOT}/build/a",
    "find src/a -name x -delete",
    "find . -name x",
    "find src/a -exec rm -rf {} ;",
    "env -i A=1 pytest",
    "timeout 5 make",
    "sh build.sh",
    "bash -o pipefail -e check.sh",
    "xargs -n 1 echo",
    "python -c pass",
]
REMOVAL = [
    "rm -rf .",
    "rm -rf /",
    "rm -rf *",
    "rm -rf docs",
    "rm -r -f docs",
    "rm docs -rf",
    "rm --recursive --force docs",
    "rm --rec docs",
    "rm -vfR docs",
    "rm -rf build/../docs",
    "rm -rf build ../other",
    "rm -rf ~/x",
    "rm -rf /home/someone/project-two/build",
    f"rm -rf {ROOT}",
    "/bin/rm -rf docs",
    "env rm -rf docs",
    "env -u HOME A=b rm -rf docs",
    "nice -n 5 rm -rf docs",
    "timeout -k 1 5 rm -rf docs",
    "nohup rm -rf docs",
    "sudo -u root rm -rf docs",
    "busybox rm -rf docs",
    "xargs rm -rf",
    "xargs -I {} rm -rf {}",
    "xargs -n 1 rm -rf build",
    "find . -delete",
    "find -delete",
    "find docs -type f -delete",
    "find docs build -exec rm -rf {} +",
    "find / -execdir rm -r {} ;",
]


@pytest.mark.parametrize(("line", "why"), GIT)
def test_git_commands_that_lose_work_are_told(line: str, why: Destruction) -> None:
    assert judged(*line.split()) is why


@pytest.mark.parametrize("line", REMOVAL)
def test_recursive_removal_outside_the_scope_is_told(line: str) -> None:
    assert judged(*line.split()) is Destruction.REMOVES_OUTSIDE


@pytest.mark.parametrize("line", HARMLESS)
def test_what_loses_nothing_asks_nobody(line: str) -> None:
    assert judged(*line.split()) is None


@pytest.mark.parametrize(
    "argv",
    [
        ("cat", ".handshake/state.db"),
        ("ls", "./.handshake"),
        ("cat", ".HandShake/config.toml"),
        ("cat", ".\uff48andshake/x"),
        ("python", "-c", "import shutil; shutil.rmtree('.handshake')"),
        ("tar", "--file=.handshake/x"),
        ("git", "-C", ".handshake", "status"),
        ("sh", "-c", "echo x > .handshake/x"),
        ("sh", "-c", "echo x 2>>.handshake/x"),
        ("sh", "-c", "cat .hand''shake/x"),
        ("sh", "-c", 'cat .hand"sh"ake/x'),
        ("sh", "-c", "cat .h*/x"),
        ("sh", "-c", "cat .[g-i]andshake/x"),
        ("sh", "-c", "cat .hand\\shake/x"),
        ("env", "sh", "-c", "true && ls .handshake"),
    ],
)
def test_nothing_names_the_runtime_folder(argv: tuple[str, ...]) -> None:
    assert judged(*argv) is Destruction.RUNTIME_FOLDER


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("true; git reset --hard", Destruction.GIT_DISCARDS),
        ("make && git clean -fd", Destruction.GIT_CLEANS),
        ("make || rm -rf docs", Destruction.REMOVES_OUTSIDE),
        ("echo y | xargs rm -rf", Destruction.REMOVES_OUTSIDE),
        ("make\nrm -rf docs", Destruction.REMOVES_OUTSIDE),
        ("make & rm -rf 'docs'", Destruction.REMOVES_OUTSIDE),
        ("A=b rm -rf docs", Destruction.REMOVES_OUTSIDE),
        ("cd docs && rm -rf build", Destruction.REMOVES_OUTSIDE),
        ("cd /tmp; rm -rf build", Destruction.REMOVES_OUTSIDE),
        ("r\\m -rf docs", Destruction.REMOVES_OUTSIDE),
        ("'r'm -rf docs", Destruction.REMOVES_OUTSIDE),
        ("rm -rf $X", Destruction.SHELL_UNKNOWN),
        ("$(echo rm) -rf docs", Destruction.SHELL_UNKNOWN),
        ("`echo rm` docs", Destruction.SHELL_UNKNOWN),
        ('"$X" docs', Destruction.SHELL_UNKNOWN),
        ("(rm -rf docs)", Destruction.SHELL_UNKNOWN),
        ("{ rm -rf docs; }", Destruction.SHELL_UNKNOWN),
        ("if true; then rm x; fi", Destruction.SHELL_UNKNOWN),
        ("for x in docs; do rm x; done", Destruction.SHELL_UNKNOWN),
        ("f() rm", Destruction.SHELL_UNKNOWN),
        ("rm -rf {a,b}", Destruction.SHELL_UNKNOWN),
        ("cat <<E\nE", Destruction.SHELL_UNKNOWN),
        ("cat <(rm x)", Destruction.SHELL_UNKNOWN),
        ("eval rm", Destruction.SHELL_UNKNOWN),
        (". ./x.sh", Destruction.SHELL_UNKNOWN),
        ("cat ~/x", Destruction.SHELL_UNKNOWN),
        ("echo 'open", Destruction.SHELL_UNKNOWN),
        ('echo "open', Destruction.SHELL_UNKNOWN),
        ("echo x >", Destruction.SHELL_UNKNOWN),
        ("pytest -q", None),
        ("cd build && rm -rf old", None),
        ("make 2>&1 | tail -n 5 > build/log", None),
        ("echo 'rm -rf docs; git reset --hard' # rm -rf docs", None),
        ('echo "a \\"quoted\\" word"', None),
        ("make \\\n all", None),
    ],
)
@pytest.mark.parametrize("shell", ["sh -c", "/bin/bash -o pipefail -euc", "env dash -c"])
def test_scripts_are_read_and_what_is_not_plain_is_destructive(
    shell: str, script: str, why: Destruction | None
) -> None:
    assert judged(*shell.split(), script) is why


@pytest.mark.parametrize("line", ["sh", "sh -", "bash -s", "sh -c", "bash --norc", "env -S 'rm_-rf_x'", "eval x"])
def test_what_a_shell_would_read_elsewhere_is_unknown(line: str) -> None:
    assert judged(*line.split()) is Destruction.SHELL_UNKNOWN


def test_depth_is_bounded() -> None:
    assert judged(*["env"] * (MAX_NESTING + 1), "ls") is Destruction.NESTED_TOO_DEEP
    assert judged(*["env"] * MAX_NESTING, "ls") is None


def test_the_folder_of_the_call_counts() -> None:
    assert judged("rm", "-rf", "a", cwd="build") is None
    assert judged("rm", "-rf", "a", cwd="docs") is Destruction.REMOVES_OUTSIDE
    assert judged("ls", cwd=".handshake/keys") is Destruction.RUNTIME_FOLDER


def test_no_words_do_nothing() -> None:
    assert not is_destructive((), in_scope=lambda path: fnmatchcase(path, "*"))
    assert is_destructive(("rm", "-rf", "/x"), in_scope=lambda path: True)
