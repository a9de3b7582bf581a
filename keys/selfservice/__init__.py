"""Users look after keys of their own: by an API (`keys.selfservice.urls`) and on pages (`keys.selfservice.pages`)."""
