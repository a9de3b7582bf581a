"""Decides whether a key is accepted, and why not. Nothing else decides it."""

from .concluding import conclude, refuse_left
from .deciding import check, check_for_other, use_of
from .finding import objection_to
from .guard import Guard, Subject
from .use import UNAVAILABLE_DETAIL, Reason, Use, holder_of, is_from_person, lacking, scope_denial, uses_of

__all__ = [
    "UNAVAILABLE_DETAIL",
    "Guard",
    "Reason",
    "Subject",
    "Use",
    "check",
    "check_for_other",
    "conclude",
    "holder_of",
    "is_from_person",
    "lacking",
    "objection_to",
    "refuse_left",
    "scope_denial",
    "use_of",
    "uses_of",
]
