"""An app of a project whose keys have fields of their own, in a table of their own."""
