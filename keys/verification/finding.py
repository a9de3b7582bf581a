"""Finds the holder of a key in the keyrings of a guard, and says why it is refused. Nothing else says so."""

from django.db import Error

from ..credentials import Credential
from ..keyrings import Holder
from ..models import owners
from ..networks import Address, contains
from .use import Reason, Use


def look_up(use: Use, token: str, can_record: bool) -> tuple[Holder | None, str]:
    """Return the holder from the guard's keyrings, and why it is refused. A keyring may record the use at once."""
    checked, objection = None, ""
    failure: Error | None = None

    def may_use(holder: Holder) -> bool:
        nonlocal checked, objection, failure
        checked = holder
        try:
            objection = objection_to(holder, use.address)
        except Error as error:
            failure = error
        return not (objection or failure)

    for ring in use.guard.keyrings:
        find_and_record = getattr(ring, "find_and_record", None) if can_record else None
        if find_and_record is None:
            holder = ring.find(token)
        else:
            try:
                holder, use.recorded = find_and_record(token, use.row, may_use)
            except Error:
                # Perhaps only the log is unavailable, which is handled when the row is written.
                holder = ring.find(token)
        if holder is not None and holder is checked and failure is not None:
            raise failure
        if holder is not None:
            # Always apply the rule, whatever the keyring has written.
            objection = objection if holder is checked else objection_to(holder, use.address)
            adopt = getattr(ring, "adopt", None)
            if not objection and adopt is not None and (adopted := adopt(token, holder)) is not holder:
                holder, use.has_adopted = adopted, adopted is not None
                objection = objection_to(adopted, use.address) if adopted is not None else ""
        if holder is not None:
            return holder, objection
    return None, ""


def objection_to(holder: Holder, address: Address | None) -> str:
    """Return why a key that was found is refused from this address now; empty if it is accepted.

    The owner of a key is asked for last, as that takes a query. Raises Error if that cannot be done.
    """
    if objection := getattr(holder, "objection", ""):
        return str(objection)
    networks = getattr(holder, "allowed_ips", ())
    # A value that is not a list has bypassed the validators. It matches no address.
    if networks not in ([], ()) and not contains(networks, address):
        return Reason.ADDRESS
    has_owner = bool(getattr(holder, "owner_ref", ""))  # a holder of the project's own may know of none
    return Reason.OWNER if has_owner and not owners.accept(holder) else ""


def is_of_stranger(use: Use, credential: Credential) -> bool:
    """Tell whether no keyring knows what was presented; of several keys in conflict, none."""
    if use.holder is not None:
        return False
    is_dispute = credential.in_conflict or credential.looks_repeated
    disputed = credential.in_dispute if is_dispute else []
    return not any(ring.find(token) is not None for token in disputed for ring in use.guard.keyrings)
