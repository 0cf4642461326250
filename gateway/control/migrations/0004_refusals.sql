-- What nodes of the federation refuse, as each has told (control/refusals.py): how far one was heard, and its entries.
CREATE TABLE refusal_ledgers (
    node   TEXT PRIMARY KEY,
    base   INTEGER NOT NULL,
    number INTEGER NOT NULL,
    whole  INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE refusals (
    node   TEXT NOT NULL,
    kind   TEXT NOT NULL,
    value  TEXT NOT NULL,
    issuer TEXT NOT NULL,
    base   INTEGER NOT NULL,
    number INTEGER NOT NULL,
    at     REAL,
    PRIMARY KEY (node, kind, value, issuer)
) WITHOUT ROWID;
