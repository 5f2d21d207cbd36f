"""The `reports` command and the composition root."""
