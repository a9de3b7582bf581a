"""An app of a project with a model whose changes other packages keep."""
