"""An independent second opinion: every number anew from a ledger, and compared with every place that shows it.

Rules:
- Nothing here imports how the engine computes: no state, fold, contribution, verdicts, bursts, breakdown, sections,
  variants, summary or timeline of `app`. What a number means is written down a second time, from the definitions in
  `docs/report.md`.
- One module per section of the report, at most 150 lines each: `summary`, `timeline`, `links`, `places`, `clients`,
  `providers`, `variants`, `recipients`, `events`, `campaigns`; `engagement` is what rows of opens and clicks have in
  common, `sections` all that are made of rows.
- `ledger` reads, `erasures` knows who was erased and what is blank then, `verdicts` says who made an open or a click,
  `rules` what one recipient counts as, `experiment` how sure A/B rates are, `heatmap` two A/B fields against each
  other, `rates` asks for each rate, `compare` collects differences, `stored`, `stored_rows` and `shown` fetch what the
  places hold (RocksDB, Redis; JSON, event streams).
"""
