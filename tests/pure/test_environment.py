"""Secrets in environment variables, and in a file `.env`."""

from pathlib import Path

import pytest

from keys.environment import is_on, values

VARIABLE = "TEST_SOME_API_KEY"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.delenv(VARIABLE, raising=False)
    return str(tmp_path)


@pytest.mark.parametrize(
    ("text", "found"),
    [("", []), ("  ", []), (",", []), ("one", ["one"]), (" one , two,, three ", ["one", "two", "three"])],
)
def test_a_variable_holds_values_between_commas(
    folder: str, monkeypatch: pytest.MonkeyPatch, text: str, found: list[str]
) -> None:
    assert values(VARIABLE, folder) == []
    monkeypatch.setenv(VARIABLE, text)
    assert values(VARIABLE, folder) == found


def test_the_file_is_read_where_the_environment_is_silent(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (Path(folder) / ".env").write_text(f"{VARIABLE}=from-the-file\n")
    assert values(VARIABLE, folder) == ["from-the-file"]
    monkeypatch.setenv(VARIABLE, "from-the-environment")
    assert values(VARIABLE, folder) == ["from-the-environment"]
    monkeypatch.setenv(VARIABLE, "")
    assert values(VARIABLE, folder) == []


def test_the_folder_is_that_of_the_caller(folder: str, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / ".env").write_text(f"{VARIABLE}=elsewhere\n")
    assert values(VARIABLE, folder) == []
    assert values(VARIABLE, str(tmp_path / "other")) == ["elsewhere"]


@pytest.mark.parametrize(
    ("text", "on"),
    [("true", True), ("1", True), ("yes", True), (" ON ", True), ("false", False), ("0", False), ("off", False),
     ("", False), (" ", False)],
)  # fmt: skip
def test_a_switch_is_on_unless_it_is_turned_off(
    folder: str, monkeypatch: pytest.MonkeyPatch, text: str, on: bool
) -> None:
    assert is_on(VARIABLE, folder)
    monkeypatch.setenv(VARIABLE, text)
    assert is_on(VARIABLE, folder) is on


def test_what_is_neither_on_nor_off_is_an_error(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "perhaps")
    with pytest.raises(ValueError, match="perhaps"):
        is_on(VARIABLE, folder)
