"""Local pages: served to this machine only, to whoever has the token."""
