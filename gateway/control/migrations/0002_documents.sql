-- What an operator declares: `id` is kind/name, `body` is JSON as it was written.
CREATE TABLE documents (
    id         TEXT PRIMARY KEY,
    kind       TEXT NOT NULL,
    name       TEXT NOT NULL,
    body       TEXT NOT NULL,
    created_at REAL NOT NULL,
    updated_at REAL NOT NULL,
    updated_by TEXT NOT NULL,
    version    INTEGER NOT NULL
) WITHOUT ROWID;
