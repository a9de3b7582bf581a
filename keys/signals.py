"""The app's signals."""

from django.dispatch import Signal

# Sent inside the transaction of the change, with `key`, `event` (of AuditEvent.Event), `detail` (which fields changed)
# and `changes` (by field its old and new value, as AuditEvent has them). A receiver that raises undoes the change.
key_changed = Signal()

# For metrics, alerts or an inventory. A receiver that raises stops neither the others nor the request; Django logs the
# error.
#
# key_used: a good key was presented and recorded, and the view is about to run. key_refused: a key was refused, before
# the view, or by its scopes or its rate when the answer is done (then after its key_used). Both have `key` (an APIKey,
# an EnvironmentKey, or None for an unknown key) and `row`, the values of its AuditEvent as a dict, without the secret;
# `row["owner"]` is whose key it is, such as `auth.user:7`, or empty.
# The sender is the class of the key.
key_used = Signal()
key_refused = Signal()
# Sent after the commit of each life-cycle event, with `key` (a copy without its secret), `event` (of AuditEvent.Event),
# `detail`, `changes` and `actor`.
key_life_cycle = Signal()

# Reminders, sent with `key` for each key that `keys_list --expiring` or `--unused` lists, on each run. A receiver that
# raises stops neither the others nor the command.
key_expiring = Signal()
key_unused = Signal()
