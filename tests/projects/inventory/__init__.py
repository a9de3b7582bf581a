"""A project like NetBox: a key acts as its user, within its scopes and the user's permissions."""
