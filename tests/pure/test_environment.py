"""Secrets in environment variables, and in a file `.env`."""

from pathlib import Path

import pytest

from keys.environment import UnreadableFileError, is_on, obstacle, values

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
    "files",
    [
        {"../.env": f"{VARIABLE}=elsewhere\n"},
        {"../../.env": f"{VARIABLE}=elsewhere\n"},
        {"../settings.ini": f"[settings]\n{VARIABLE}=elsewhere\n"},
        {"settings.ini": f"[settings]\n{VARIABLE}=elsewhere\n"},
        {".env/bin/activate": "", "../.env": f"{VARIABLE}=elsewhere\n"},  # as some name a virtual environment
    ],
)
def test_no_other_file_is_read(folder: str, files: dict[str, str]) -> None:
    project = Path(folder, "a", "project")
    project.mkdir(parents=True)
    for name, text in files.items():
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text(text)
    assert values(VARIABLE, str(project)) == []
    assert obstacle(str(project)) == ""


def test_no_other_file_hides_it(folder: str) -> None:
    Path(folder, "settings.ini").write_text("[settings]\nOTHER=value\n")
    Path(folder, ".env").write_text(f"{VARIABLE}=value\n")
    assert values(VARIABLE, folder) == ["value"]


def test_a_mark_at_the_beginning_belongs_to_no_name(folder: str) -> None:
    Path(folder, ".env").write_text(f"{VARIABLE}=válue\n", encoding="utf-8-sig")
    assert values(VARIABLE, folder) == ["válue"]


@pytest.mark.parametrize("encoding", ["utf-16", "latin-1"])
def test_a_file_that_is_no_text_is_told_of_without_what_it_holds(
    folder: str, encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path(folder, ".env").write_bytes(f"{VARIABLE}=secret-é\n".encode(encoding))
    assert obstacle(folder) == f"{folder}/.env is not text in UTF-8."
    for ask in (values, is_on):
        with pytest.raises(UnreadableFileError, match="not text in UTF-8") as refused:
            ask(VARIABLE, folder)
        assert "secret" not in repr(refused.value.__dict__) + repr(refused.value.__context__)
    monkeypatch.setenv(VARIABLE, "yes")
    assert values(VARIABLE, folder) == ["yes"]
    assert is_on(VARIABLE, folder)


def test_a_file_that_cannot_be_opened(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    Path(folder, ".env").write_text(f"{VARIABLE}=value\n")

    def refuse(*args: object, **kwargs: object) -> None:
        raise PermissionError(13, "Permission denied")

    # Root, as whom tests may run, may open every file.
    monkeypatch.setattr("decouple.open", refuse, raising=False)
    assert obstacle(folder) == f"{folder}/.env cannot be read: Permission denied."
    with pytest.raises(UnreadableFileError, match="Permission denied"):
        values(VARIABLE, folder)


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
