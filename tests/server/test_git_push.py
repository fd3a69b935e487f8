"""A stack on a booted host that is built of what is pushed: a real `git push` to its page, and everything refused."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import tarfile
import time
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import pytest

from builder import facts
from builder.polling import until
from builder.stack import user
from tests import forked_er
from tests.machine import attack_image, hosts
from tests.machine.clients import Load
from tests.server.apply_page import Asked, Changed, write_releases
from tests.server.conftest import client
from tests.sweeps import of_a_sweep, sample

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.server.conftest import Client

pytestmark = pytest.mark.machine
# What the last build of the stack has made is in its store.
NEXT = 'FROM localhost/built\nCOPY greeting /greeting\nCMD ["python3", "-m", "http.server", "3000"]\n'
BUILDS = f"{facts.BUILDS}/app"


@dataclass
class Laptop:
    """The host, its admin, and a repository with a key that may push it."""

    web: Client
    repository: Path

    @cached_property
    def url(self) -> str:
        return f"ssh://deploy@{self.web.host.address(4)}"

    def ssh(self, key: str) -> str:
        """The ssh of Git: this key alone, and no config of this machine."""
        path = self.web.host.key.parent / key
        known = "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR"
        return f"ssh -F none -i {path} -o IdentitiesOnly=yes -o BatchMode=yes {known}"

    def env(self, key: str = "push", **more: str) -> dict[str, str]:
        who = {f"GIT_{role}_{what}": "test" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
        own = {"GIT_SSH_COMMAND": self.ssh(key), "GIT_CONFIG_GLOBAL": "/dev/null", "LANG": "C.UTF-8"}
        return {**os.environ, **who, **own, **more}

    def git(self, *words: str, check: bool = True, stdin: bytes = b"") -> str:
        """Run in the repository; what it prints."""
        argv = ["git", "-C", str(self.repository), *words]
        done = subprocess.run(argv, env=self.env(), input=stdin, capture_output=True, check=False, timeout=120)
        assert not check or done.returncode == 0, done.stderr
        return done.stdout.decode().strip()

    def push(self, *words: str, to: str = "/app", key: str = "push", **env: str) -> subprocess.CompletedProcess[str]:
        """`git push` to a stack; without words, of main."""
        argv = ["git", "-C", str(self.repository), "push", f"{self.url}{to}", *(words or ("main",))]
        env = self.env(key, **env)
        return subprocess.run(argv, env=env, capture_output=True, text=True, check=False, timeout=300)

    def started(self, **files: str) -> subprocess.Popen[str]:
        """A push of a commit upon the server's branch, under way."""
        self.dropped()
        new = self.commit(**files)
        argv = ["git", "-C", str(self.repository), "push", f"{self.url}/app", f"{new}:main"]
        return subprocess.Popen(argv, env=self.env(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def refused(self, why: str, *words: str, to: str = "/app", key: str = "push", **env: str) -> str:
        """What a push has said that was refused for this reason."""
        done = self.push(*words, to=to, key=key, **env)
        assert done.returncode != 0, done.stderr
        assert why in done.stderr, done.stderr
        return done.stderr

    def commit(self, message: str = "change", **files: str) -> str:
        """A commit with these files of the directory app; its id."""
        for name, text in files.items():
            (self.repository / "app" / name).write_text(text)
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "-m", message)
        return self.git("rev-parse", "HEAD")

    def dropped(self) -> None:
        """Without the commits that the server has refused."""
        self.git("reset", "--hard", "--quiet", self.branch())

    def branch(self) -> str:
        """The commit that the server's branch is."""
        argv = ["git", "-C", f"{BUILDS}/git", "rev-parse", "main"]
        return self.web.host.machine.run(argv, user=self.builder).stdout.strip()

    @cached_property
    def builder(self) -> str:
        return user.build_user(next(stack.uid for stack in self.web.host.spec.stacks if stack.name == "app"))

    def deploy(self, *words: object) -> subprocess.CompletedProcess[str]:
        """`er deploy` with the key of `app`."""
        own = ["--key", self.web.host.key.parent / "push", "-o", "StrictHostKeyChecking=no"]
        known = ["-o", f"UserKnownHostsFile={self.web.directory / 'known_hosts'}"]
        return forked_er.run([*map(str, ("deploy", self.web.host.address(4), *words, *own, *known))], env=self.web.env)

    def journal(self) -> str:
        """What the service has written."""
        return self.web.host.machine.run("journalctl -q -t er-deploy -o cat --no-pager").stdout

    def greeting(self) -> str:
        return self.web.host.curl("https://app.example.com/greeting", timeout=60).stdout.rpartition("\r\n")[2].strip()


@pytest.fixture(scope="module")
def laptop(toolbox_image: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Laptop]:
    """The host has served deploy keys since its first apply; nothing was pushed yet."""
    tmp = tmp_path_factory.mktemp("pushes")
    with hosts.booted("pushes", tmp, keys=("push", "shop"), more=("git",), timeout=300) as host:
        web = client(host, tmp)
        repository = tmp / "repository"
        repository.mkdir()
        laptop = Laptop(web, repository)
        laptop.git("init", "--quiet", "--initial-branch=main")
        laptop.git("config", "core.compression", "1")
        laptop.commit("empty")
        laptop.refused("deploy keys are not served here yet")
        done = web.er("apply", web.spec, "--yes", "--no-build")
        assert done.returncode == 0, done.stderr
        # A disk of their own for builds: they want a share of a disk free, and this machine's has others on it.
        host.machine.run(f"mkdir -p {facts.BUILDS} && mount -t tmpfs -o size=4g,mode=0711 builds {facts.BUILDS}")
        yield laptop


@pytest.fixture(scope="module")
def first(laptop: Laptop) -> str:
    """What the first push has said: the stack's first image, in the directory that the spec names."""
    (laptop.repository / "app").mkdir()
    with tarfile.open(attack_image.PATH) as image:
        sizes = {member.size: member.name for member in image.getmembers()}
        layer = image.extractfile(sizes[max(sizes)])
        assert layer is not None
        (laptop.repository / "app/base.tar").write_bytes(layer.read())
    (laptop.repository / "app/.env").write_text("PASSWORD=secret\n")
    text = (hosts.SPECS / "pushes/app/Containerfile").read_text()
    laptop.commit(Containerfile=text, greeting="hello\n")
    done = laptop.push()
    assert done.returncode == 0, done.stderr
    return done.stderr


def test_from_a_push_to_the_page(laptop: Laptop, first: str) -> None:
    """What the build prints is seen while it is pushed; who and what is in the record and the journal."""
    commit = laptop.git("rev-parse", "HEAD")
    assert "remote: app/web is built of app, 4 files" in first
    assert "remote:   STEP 3/5: COPY greeting /greeting" in first
    assert "remote: app/web: .env is no part of the build" in first
    assert f"remote: app runs release 1, commit {commit[:10]}" in first
    assert "main -> main" in first
    assert laptop.greeting() == "hello"
    newest = laptop.web.json("releases", "app")[0]
    assert (newest["source"], newest["commit"], newest["by"]) == ("git", commit, "ci of push")
    wanting = laptop.web.host.machine.run("systemctl show -P WantedBy easyrunner-deploy.socket").stdout
    assert wanting == "er-first-boot.service\n", "it is there after a boot too"
    assert f"git {commit[:10]}" in laptop.web.er("releases", "app").stdout
    journal = laptop.journal()
    assert re.search(rf"app SHA256:\S+ ci of push: pushes {commit} to main", journal)
    assert f"{commit} runs" in journal


def test_what_is_built_of_the_same_is_not_built_again(laptop: Laptop, first: str) -> None:
    """A change beside the directory is a commit and no release."""
    (laptop.repository / "README").write_text("beside it\n")
    laptop.commit()
    done = laptop.push()
    assert "remote: app/web runs what it is built from" in done.stderr
    assert laptop.branch() == laptop.git("rev-parse", "HEAD")


@of_a_sweep
def test_a_branch_goes_back_to_what_was_built_before(laptop: Laptop, first: str) -> None:
    """A switch, and no build; as of what is built of a directory: test_build_on_server.py."""
    old = laptop.git("rev-parse", "HEAD")
    laptop.commit(Containerfile=NEXT, greeting="second\n")
    assert laptop.push().returncode == 0
    assert laptop.greeting() == "second"
    laptop.git("reset", "--hard", "--quiet", old)
    assert "[rejected]" in laptop.push().stderr, "by the client's own Git, which is told to force it"
    done = laptop.push("--force", "main")
    assert "goes back to what it was built from before" in done.stderr
    assert (done.returncode, laptop.greeting(), laptop.branch()) == (0, "hello", old)


def test_what_cannot_be_built_changes_nothing(laptop: Laptop, first: str) -> None:
    """The branch stays, and what ran runs on."""
    before, page = laptop.branch(), laptop.greeting()
    laptop.commit(Containerfile="FROM localhost/built\nRUN echo the reason; exit 3\n")
    said = laptop.refused("refused: app/web was not built")
    assert "remote:   the reason" in said
    assert "pre-receive hook declined" in said
    laptop.dropped()
    assert (laptop.branch(), laptop.greeting()) == (before, page)


@of_a_sweep
def test_what_does_not_come_up_changes_nothing(laptop: Laptop, first: str) -> None:
    """As of any release: test_releases.py."""
    before, page = laptop.branch(), laptop.greeting()
    laptop.commit(Containerfile=f"{NEXT}CMD python3 -m no.such\n", greeting="broken\n")
    said = laptop.refused("refused: app did not come up and runs what it ran before")
    assert "its containers said" in said, said
    assert "no.such" in said, said
    laptop.dropped()
    assert (laptop.branch(), laptop.greeting()) == (before, page)


@of_a_sweep
def test_visitors_of_a_deploy_a_push_and_the_way_back(laptop: Laptop, first: str) -> None:
    """The rows of docs/apply.md: nobody's request fails."""
    rows = []
    for name, change in (("`er deploy`", _deployed), ("`git push`", _pushed), ("`er server rollback`", _rolled_back)):
        own, other = Load(laptop.web.host, "app.example.com"), Load(laptop.web.host, "shop.example.com", family=6)
        begun = time.monotonic()
        done = change(laptop)
        seconds, its, others = time.monotonic() - begun, own.end(), other.end()
        assert done.returncode == 0, done.stderr
        assert {status for status, _ in (*its, *others)} == {"200"}, (name, its, others)
        rows.append(Changed(name, "done", seconds, Asked.of(others), Asked.of(its)))
    write_releases(rows)


def _deployed(laptop: Laptop) -> subprocess.CompletedProcess[str]:
    image = f"oci-archive:{attack_image.PATH}"
    return laptop.deploy("app", "--image", image)


def _pushed(laptop: Laptop) -> subprocess.CompletedProcess[str]:
    laptop.commit(Containerfile=NEXT, greeting="pushed\n")
    return laptop.push()


def _rolled_back(laptop: Laptop) -> subprocess.CompletedProcess[str]:
    assert laptop.greeting() == "pushed"
    return laptop.web.er("rollback", "app")


# As a second build does, and a second release: test_build_on_server.py, test_releases.py.
@of_a_sweep
def test_a_second_push_waits_for_its_turn(laptop: Laptop, first: str) -> None:
    """After one that was refused the next goes on; after one that was not, its commit is no longer the next."""
    laptop.dropped()
    base = laptop.branch()
    failing = laptop.started(Containerfile=f"{NEXT}RUN sleep 3; exit 3\n", greeting="slow\n")
    until(lambda: laptop.journal().rstrip().endswith("to main"), timeout=30, what="the push that is first")
    going = laptop.started(Containerfile=NEXT, greeting="quick\n")
    late = laptop.started(Containerfile=NEXT, greeting="late\n")
    ends = [(one.communicate(timeout=200)[1], one.returncode) for one in (failing, going, late)]
    assert ends[0][1] != 0
    assert [code for _, code in ends[1:]].count(0) == 1, "of two that were shown the same branch one moves it"
    for said, _ in ends[1:]:
        assert re.search("another push to app is under way by ci of push since .* UTC; this one waits", said)
    assert laptop.branch() != base
    assert "refused: main has moved to" in next(said for said, code in ends[1:] if code)
    assert laptop.greeting() == ("quick" if going.returncode == 0 else "late")


# ---- what is refused


_PATHS = ("/shop", "/app/../shop", "/../app", "//app", "/~app", "/app.git")
_PROGRAMS = (
    ("this key is for the stack app alone", "git-receive-pack --stateless-rpc"),
    ("a deploy key has no shell", "/usr/bin/git-receive-pack"),
    ("this key is for the stack app alone", "git-receive-pack --advertise-refs"),
    ("a deploy key has no shell", "git receive-pack"),
)


def test_what_may_not_be_asked(laptop: Laptop, first: str) -> None:
    """Command lines of Git's clients, of one key, about another stack, a path, an option, and to read."""
    other, words = "this key is for the stack app alone", ("main",)
    for to in sample(_PATHS, _PATHS[:2]):
        laptop.refused(other, *words, to=to)
    laptop.refused("the stack shop takes no git push", to="/shop", key="shop")
    for why, program in sample(_PROGRAMS, _PROGRAMS[:2]):
        laptop.refused(why, f"--receive-pack={program}", "main")
    for reads in (["ls-remote", f"{laptop.url}/app"], ["archive", f"--remote={laptop.url}/app", "main"]):
        done = subprocess.run(["git", *reads], env=laptop.env(), capture_output=True, text=True, check=False)
        assert done.returncode != 0
        assert "a deploy key pushes, and reads nothing with Git" in done.stderr
    assert "refused: a deploy key pushes" in laptop.journal()


def test_nothing_but_the_branch(laptop: Laptop, first: str) -> None:
    """Another one, a tag, a name of any other kind, none at all; beside the branch or alone."""
    laptop.git("reset", "--hard", "--quiet", laptop.branch())
    before = laptop.web.json("releases", "app")
    laptop.commit(greeting="not this one\n")
    only = "refused: only the branch main is taken, not refs/"
    laptop.refused(only + "heads/other", "main:refs/heads/other")
    laptop.refused(only + "tags/v1", "main:refs/tags/v1")
    laptop.refused(only + "tags/v1", "main", "main:refs/tags/v1")
    laptop.refused(only + "for/main", "main:refs/for/main")
    laptop.refused("main is what app is built from, and stays", ":main")
    laptop.dropped()
    assert laptop.web.json("releases", "app") == before


def test_a_pushed_tree_is_files_and_nothing_else(laptop: Laptop, first: str) -> None:
    """Hooks and filters in it do nothing; what needs more than the commit is refused; variables do not get through."""
    laptop.git("reset", "--hard", "--quiet", laptop.branch())
    place = laptop.repository
    hook = "#!/bin/sh\ntouch /var/tmp/pwned /tmp/pwned $PWD/pwned\n"
    for path in ("hooks/pre-receive", "hooks/post-receive", "hooks/update", ".githooks/pre-receive", "app/hooks/x"):
        (place / path).parent.mkdir(exist_ok=True)
        (place / path).write_text(hook)
        (place / path).chmod(0o755)
    (place / "config").write_text('[core]\n\thooksPath = hooks\n[filter "x"]\n\tsmudge = touch /var/tmp/pwned\n')
    attributes = "hidden export-ignore\ngreeting export-subst\n* filter=x ident eol=crlf working-tree-encoding=UTF-16\n"
    laptop.git("config", "filter.x.clean", "cat")
    (place / "app/.gitattributes").write_text(attributes.replace(" working-tree-encoding=UTF-16", ""))
    (place / "app/out").symlink_to("/etc/easyrunner/stacks/shop/services")
    laptop.commit(
        Containerfile=f"{NEXT}COPY hidden /hidden\n", greeting="$Format:%H$ $Id$\n", hidden="there all the same\n"
    )
    ssh = f"{laptop.ssh('push')} -o SetEnv='GIT_DIR=/tmp GIT_CONFIG_PARAMETERS=x GIT_SSH=x' -o SendEnv=GIT_*"
    done = laptop.push(GIT_SSH_COMMAND=ssh, GIT_DIR_REMOTE="/tmp", GIT_TRACE_SETUP="0")
    assert done.returncode == 0, done.stderr
    assert laptop.greeting() == "$Format:%H$ $Id$"
    assert "there all the same" in laptop.web.host.curl("https://app.example.com/hidden").stdout
    found = laptop.web.host.machine.run(f"find /var /tmp /run -xdev -name 'pwned*' 2>/dev/null; ls {BUILDS}/git").stdout
    assert "pwned" not in found
    laptop.commit(Containerfile=f"{NEXT}COPY out /out\n")
    laptop.refused("refused: app/web was not built")
    laptop.dropped()


def test_what_the_commit_alone_does_not_have(laptop: Laptop, first: str) -> None:
    """Submodules, files of Git LFS, and a directory without a Containerfile."""
    laptop.git("reset", "--hard", "--quiet", laptop.branch())
    laptop.git("update-index", "--add", "--cacheinfo", f"160000,{laptop.branch()},app/vendor")
    laptop.git("commit", "--quiet", "-m", "a submodule")
    laptop.refused("refused: vendor is a submodule")
    laptop.dropped()
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'1' * 64}\nsize 12345\n"
    (laptop.repository / "app/.gitattributes").write_text("*.bin filter=lfs diff=lfs merge=lfs -text\n")
    (laptop.repository / "app/large.bin").write_text(pointer)
    laptop.commit()
    laptop.refused("refused: of some files only pointers of Git LFS were pushed")
    laptop.dropped()
    laptop.git("rm", "--quiet", "app/Containerfile")
    laptop.git("commit", "--quiet", "-m", "no Containerfile")
    laptop.refused("refused: the commit has no app/Containerfile")
    laptop.dropped()


def test_too_much_is_refused(laptop: Laptop, first: str) -> None:
    """A tree of trees that unpacks to a million files, a damaged object."""
    laptop.git("reset", "--hard", "--quiet", laptop.branch())
    blob = laptop.git("hash-object", "-w", "--stdin", stdin=b"x")
    tree = laptop.git("mktree", stdin="".join(f"100644 blob {blob}\tf{n}\n" for n in range(100)).encode())
    for _ in range(2):
        tree = laptop.git("mktree", stdin="".join(f"040000 tree {tree}\td{n}\n" for n in range(100)).encode())
    whole = laptop.git("mktree", stdin=f"{laptop.git('ls-tree', 'HEAD:app')}\n040000 tree {tree}\tbomb\n".encode())
    bomb = laptop.git("mktree", stdin=f"040000 tree {whole}\tapp\n".encode())
    commit = laptop.git("commit-tree", "-p", "HEAD", "-m", "bomb", bomb)
    laptop.refused("refused: it is more than 100,000 files", f"{commit}:main")
    evil = laptop.git("hash-object", "-t", "tree", "-w", "--literally", "--stdin", stdin=b"40000 .git\0" + bytes(20))
    commit = laptop.git("commit-tree", "-p", "HEAD", "-m", "evil", evil)
    assert laptop.push(f"{commit}:main").returncode != 0


@of_a_sweep
def test_too_large_is_refused(laptop: Laptop, first: str) -> None:
    """A pack over the limit, a disk that is full."""
    laptop.git("reset", "--hard", "--quiet", laptop.branch())
    (laptop.repository / "random").write_bytes(os.urandom(30 << 20))
    laptop.commit("large")
    machine = laptop.web.host.machine
    machine.run(f"mount -t tmpfs -o size=100m,mode=0711 builds {facts.BUILDS}")
    try:
        laptop.refused("pack exceeds maximum allowed size")
        machine.run(f"fallocate -l 95M {facts.BUILDS}/full")
        laptop.refused("too little to build, nothing was changed")
    finally:
        machine.run(f"umount {facts.BUILDS}")
    laptop.dropped()


@of_a_sweep
def test_ten_thousand_files_and_a_clone_without_a_past(laptop: Laptop, first: str, tmp_path: Path) -> None:
    """As a repository of its own, of which the directory is the root, and which has the newest commit alone."""
    deep = tmp_path / "deep"
    (deep / "many").mkdir(parents=True)
    for number in range(10_000):
        (deep / f"many/{number}").write_text(f"{number}\n")
    (deep / "Containerfile").write_text(f"{NEXT}COPY many /many\n")
    (deep / "greeting").write_text("ten thousand\n")
    laptop.repository.joinpath("app/greeting").write_text("on the way\n")
    shallow = Laptop(laptop.web, tmp_path / "shallow")
    for argv in (["init", "--quiet", "--initial-branch=main"], ["add", "--all"], ["commit", "--quiet", "-m", "many"]):
        Laptop(laptop.web, deep).git(*argv)
    Laptop(laptop.web, deep).git("commit", "--quiet", "--allow-empty", "-m", "the newest")
    tmp = Laptop(laptop.web, tmp_path)
    tmp.git("clone", "--quiet", "--depth=1", f"file://{deep}", "shallow")
    done = shallow.push("--force", "main")
    assert done.returncode == 0, done.stderr
    assert "is built of the commit, 10,002 files" in done.stderr
    assert laptop.greeting() == "ten thousand"
    laptop.web.host.curl("https://app.example.com/many/9999").stdout.endswith("9999\n")


# By a push, and by the admin in test_build_on_server.py.
@of_a_sweep
def test_a_key_has_the_server_build_a_directory(laptop: Laptop, first: str) -> None:
    """The same without Git, by `er deploy`; and the builds of another stack are none of its business."""
    directory = laptop.repository / "app"
    (directory / "Containerfile").write_text(NEXT)
    (directory / "greeting").write_text("from a directory\n")
    (directory / "base.tar").unlink(missing_ok=True)
    done = laptop.deploy("app", "--build", directory, "--on-server")
    assert done.returncode == 0, done.stderr
    assert "STEP 2/3: COPY greeting /greeting" in done.stderr
    assert laptop.greeting() == "from a directory"
    newest = laptop.web.json("releases", "app")[0]
    assert (newest["source"], newest["by"]) == ("build", "ci of push")
    for words in (("build-start", "shop", "web"), ("build-state", "shop"), ("build-wait", "shop", "0", "1", "0" * 12)):
        argv = [*shlex.split(laptop.ssh("push")), laptop.url.removeprefix("ssh://"), *words]
        done = subprocess.run(argv, input="{}\n", capture_output=True, text=True, check=False)
        assert "this key is for the stack app alone" in done.stderr


@of_a_sweep
def test_a_reboot(laptop: Laptop, first: str) -> None:
    """The socket is there again; a deploy works as before."""
    laptop.web.host.reboot()
    done = laptop.deploy("app", "--image", f"oci-archive:{attack_image.PATH}")
    assert done.returncode == 0, done.stderr
    newest = laptop.web.json("releases", "app")[0]
    assert (newest["source"], newest["by"]) == ("push", "ci of push")
    assert laptop.web.host.curl("https://app.example.com/").stdout.startswith("HTTP/2 200")


# As of the keys: test_deploy.py.
@of_a_sweep
def test_without_the_branch_in_the_spec_nothing_is_left_of_it(laptop: Laptop, first: str) -> None:
    place = laptop.web.host.machine.path(f"{BUILDS}/git")
    place.mkdir(parents=True, exist_ok=True)
    edited = laptop.web.edited(", git: main", "")
    done = laptop.web.er("apply", edited, "--yes", "--no-build")
    assert done.returncode == 0, done.stderr
    laptop.commit(greeting="too late\n")
    laptop.refused("the stack app takes no git push")
    assert not place.exists()
    assert laptop.web.host.curl("https://app.example.com/").stdout.startswith("HTTP/2 200")
