"""Imports the keys of other systems, so that their clients keep the keys they have.

No secret is needed: the stored digest is kept, if a token is looked up by it.
"""
