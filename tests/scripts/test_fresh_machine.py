from __future__ import annotations

import importlib.util
import subprocess
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
README = """# name

    outside

## Try it

Words.

    pip install '.[cpu]'  # a comment
    name demo

## Other

    not this
"""


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("fresh_machine", ROOT / "scripts" / "fresh_machine.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_commands_are_those_under_the_heading(script: ModuleType) -> None:
    assert script.commands_of(README, "Try it") == ["pip install '.[cpu]'  # a comment", "name demo"]


def test_a_section_without_commands_is_an_error(script: ModuleType) -> None:
    with pytest.raises(SystemExit, match="no commands under a heading 'Tryit'"):
        script.commands_of(README, "Tryit")


def test_the_readme_sets_up_demo_and_tests_by_make_and_installs_by_pip(script: ModuleType) -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    try_it, install = (script.commands_of(text, section) for section in script.SECTIONS)
    assert try_it == ["make demo", "make test"]
    assert install[0].startswith("pip install ")
    assert install[-1] == "ocl-edge doctor"


def test_only_path_and_pips_index_settings_remain(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", "/leak")
    monkeypatch.setenv("OCL_EDGE_DATA", "/leak")
    monkeypatch.setenv("VIRTUAL_ENV", "/leak/venv")
    monkeypatch.setenv("PATH", "/leak/venv/bin:/usr/bin")
    monkeypatch.setenv("PIP_FIND_LINKS", "/wheels")
    monkeypatch.setenv("PIP_USER", "1")
    found = script.fresh_environment(tmp_path / "home", tmp_path / "venv" / "bin" / "python")
    assert found["PATH"] == f"{tmp_path}/venv/bin:/usr/bin"
    assert found["PIP_FIND_LINKS"] == "/wheels"
    assert list((tmp_path / "home").iterdir()) == []
    assert not [value for value in found.values() if "leak" in value]
    assert "PIP_USER" not in found


def test_a_command_that_fails_fails_the_script(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands = (
        "    test -d .git\n    test -z \"$OCL_EDGE_DATA\"\n    python -c 'raise SystemExit(3)'\n    true\n"
    )
    repository = tmp_path / "repository"
    repository.mkdir()
    (repository / "README.md").write_text(f"# name\n\n## Try it\n\n{commands}")
    git = ["git", "-C", str(repository), "-c", "user.name=n", "-c", "user.email=e@example.org"]
    for words in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "-m", "one"]):
        subprocess.run([*git, *words], check=True)
    monkeypatch.setattr(script, "ROOT", repository)
    monkeypatch.setenv("OCL_EDGE_DATA", "/leak")
    (tmp_path / "machine").mkdir()
    with pytest.raises(SystemExit, match="'Try it': the last command above failed with 3"):
        script.follow("Try it", tmp_path / "machine")
    (tmp_path / "another").mkdir()
    assert script.follow("Try it", tmp_path / "another", "python -c 'raise SystemExit(3)'") > 0
