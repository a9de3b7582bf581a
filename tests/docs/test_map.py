"""The map of the modules is that of the package."""

import re

from tests.docs.pages import ROOT, table


def test_the_map_names_every_module() -> None:
    mapped = set(re.findall(r"`(\w+)`", " ".join(row[0] for row in table("README.md", "### The modules"))))
    modules = {
        path.stem for path in (ROOT / "keys").iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()
    }
    plumbing = {"__init__", "apps", "migrations", "templatetags", "__pycache__"}
    assert mapped == modules - plumbing
