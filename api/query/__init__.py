"""The query process: pages of recipients, events and clickers, read from the partition databases beside their worker.

`server` answers the API's requests (`wire`) with what `recipients`, `events` and `clickers` read; `partitions` keeps
the databases open and up to date. The API's side is `api.queries`.
"""
