"""What other code can listen to."""

from django.dispatch import Signal

# Sent inside the transaction of the change, with `key`, `event` (of AuditEvent.Event) and `detail` (which
# fields changed). A receiver that raises undoes the change: the audit log is one.
key_changed = Signal()

# What happened to keys, for whoever wants to know: metrics, alerts, an inventory. A receiver that raises stops
# neither the others nor the request; Django logs the error.
#
# key_used: a good key was presented and is on the record, and the view is about to run. key_refused: a key was
# refused, before the view, or by its scopes or its rate when the answer is done (after its key_used then). Both
# with `key` (an APIKey, an EnvironmentKey, or None for a key that nobody knows) and `row`, what the audit log
# holds of it: a dict by the fields of AuditEvent, without the secret. The sender is the class of the key.
key_used = Signal()
key_refused = Signal()
# After the commit of each step of a key's life, with `key` (a copy without its secret), `event` (of
# AuditEvent.Event), `detail` (which fields changed) and `actor`.
key_life_cycle = Signal()

# Reminders, sent with `key` for each key that `keys_list --expiring` or `--unused` lists, whenever it runs.
# A receiver that raises keeps neither the others nor the command from their work.
key_expiring = Signal()
key_unused = Signal()
