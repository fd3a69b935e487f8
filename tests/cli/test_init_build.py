"""`er init --build`: from a directory with a Containerfile to a spec that `er check` takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests import forked_er

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path


def _er(directory: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return forked_er.run([*words], cwd=directory)


@pytest.fixture
def app(tmp_path: Path) -> Path:
    found = tmp_path / "My App"
    found.mkdir()
    (found / "Containerfile").write_text("FROM scratch\nEXPOSE 8080\n")
    return found


def test_a_directory_with_a_containerfile(app: Path) -> None:
    done = _er(app, "init", "--build", ".", "--domain", "app.example.org", "--domain", "www.example.org")
    assert done.returncode == 0, done.stderr
    text = (app / "easyrunner.yaml").read_text()
    stack = 'stacks:\n  - name: my-app\n    build: "."\n    domains: [app.example.org, www.example.org]\n'
    before, _, after = text.partition("\n# With this in the stack, git push ")
    assert before.endswith(stack)
    assert after.endswith("deploy: {ssh_keys: [deploy.pub], git: main}\n")
    assert "er server apply HOST easyrunner.yaml" in done.stderr
    checked = _er(app, "check", "easyrunner.yaml")
    assert checked.returncode == 0, checked.stderr
    assert "web waits for its first image: er server apply HOST SPEC builds it from ." in checked.stderr


def test_what_is_missing_is_named(app: Path) -> None:
    (app / "Containerfile").unlink()
    done = _er(app, "init", "--build", ".", "--domain", "app.example.org")
    assert done.returncode == 1
    assert "hint: write ./Containerfile" in done.stderr
    assert (app / "easyrunner.yaml").exists()
    for words, why in {
        ("--build", "."): "--build needs --domain",
        ("--build", ".", "--compose", "."): "--build stands alone",
        ("--build", ".", "--domain", "no domain"): "no domain",
    }.items():
        done = _er(app, "init", "other.yaml", *words)
        assert done.returncode in {1, 2}
        assert why in done.stderr.replace("\n", " ")
        assert not (app / "other.yaml").exists()
