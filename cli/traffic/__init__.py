"""Traffic that looks like real mailings: what happens (`people`, `schedule`), how ESPs say it (`sendgrid`, `generic`),
and how it gets to the webhooks (`requests`, `client`), with a ledger of everything sent (`ledger`).

All but `client` and the ledger's writer is pure: the clock and the seed are parameters, so that a run can be repeated.
"""
