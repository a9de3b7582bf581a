"""An app with tokens of its own and the keyrings of the manual, word for word: see docs/keyrings.md."""
