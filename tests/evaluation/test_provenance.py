"""Results in docs/ come from a commit."""

import subprocess
from pathlib import Path

import pytest

from q2d2_tokenizer.evaluation import provenance


@pytest.fixture
def repository(tmp_path) -> Path:
    """A repository with code, prose and a result, all committed."""
    for name in ("code.py", "README.md", "docs/results/evaluation.json"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("1")
    identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
    for command in (["init", "-q"], ["add", "."], [*identity, "commit", "-qm", "all"]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    return tmp_path


def test_changed_code_may_write_no_results_into_docs(repository):
    provenance.require_commit(repository / "docs/results", repository)
    (repository / "code.py").write_text("2")
    with pytest.raises(RuntimeError, match=r"got 1 changed files, such as code.py: commit or stash .* --output runs/"):
        provenance.require_commit(repository / "docs/new/folder", repository)
    provenance.require_commit(repository / "runs", repository)


def test_results_prose_and_new_files_may_be_changed(repository):
    for name in ("docs/results/evaluation.json", "README.md", "new.py"):
        (repository / name).write_text("2")
    provenance.require_commit(repository / "docs/results", repository)
    (repository / "docs/results").rename(repository / "docs/moved")
    provenance.require_commit("docs/results", repository)  # a path that is none of this repository
    assert provenance.changed_files(repository) == []


def test_the_commit_is_named_as_dirty_where_code_was_changed(repository):
    clean = provenance.describe_run(repository)["commit"]
    (repository / "README.md").write_text("2")
    assert provenance.describe_run(repository)["commit"] == clean
    (repository / "code.py").write_text("2")
    assert provenance.describe_run(repository)["commit"] == clean + "-dirty"


def test_outside_a_repository_the_commit_is_unknown(tmp_path):
    assert provenance.describe_run(tmp_path)["commit"] == "unknown"
    provenance.require_commit(tmp_path / "docs", tmp_path)


@pytest.mark.parametrize(
    ("argv", "command"),
    [
        (["/home/someone/.venv/bin/q2d2", "evaluate", "--data", "a b"], "q2d2 evaluate --data 'a b'"),
        (["scripts/train_codec.py", "--steps", "3"], "python scripts/train_codec.py --steps 3"),
    ],
)
def test_commands_name_no_folder_of_the_program(argv, command, monkeypatch):
    monkeypatch.setattr("sys.argv", argv)
    assert provenance.describe_run()["command"] == command
