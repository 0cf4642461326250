-- The nodes of the federation, as far as this one knows them. A node that was removed stays as a row that says so,
-- or it would come back with what another node tells.
CREATE TABLE members (
    id         TEXT PRIMARY KEY,
    name       TEXT NOT NULL,
    role       TEXT NOT NULL,
    key_id     TEXT NOT NULL,
    public_key TEXT NOT NULL,
    ca_pem     TEXT NOT NULL,
    urls       TEXT NOT NULL,
    peer_url   TEXT NOT NULL,
    services   TEXT NOT NULL,
    routes     TEXT NOT NULL,
    removed    INTEGER NOT NULL,
    updated_at REAL NOT NULL,
    version    INTEGER NOT NULL
) WITHOUT ROWID;
