"""Projects that are built with the manual alone: their modules hold its blocks, word for word.

They import each other as a project of yours would, from a folder of their own: `uptime`, not `tests.projects.uptime`.
"""
