-- Documents for all nodes of a federation, as versions (documents/bundles.py). `id` sorts: the last one is the newest.
-- What central nodes have made (control/bundles.py): `manifest` is what is signed, `bodies` the documents by digest.
-- What may change of one has a `revision` of its own; of two the later one holds, whose node comes later.
CREATE TABLE bundles (
    id           TEXT PRIMARY KEY,
    number       INTEGER NOT NULL,
    maker        TEXT NOT NULL,
    made_at      REAL NOT NULL,
    made_by      TEXT NOT NULL,
    comment      TEXT NOT NULL,
    digest       TEXT NOT NULL,
    signature    TEXT NOT NULL,
    documents    TEXT NOT NULL,
    labels       TEXT NOT NULL,
    percentage   REAL NOT NULL,
    max_failures INTEGER NOT NULL,
    forgiven     INTEGER NOT NULL,
    attempt      INTEGER NOT NULL,
    state        TEXT NOT NULL,
    reason       TEXT NOT NULL,
    revision     INTEGER NOT NULL,
    revised_by   TEXT NOT NULL,
    updated_at   REAL NOT NULL,
    manifest     TEXT NOT NULL,
    bodies       TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX bundles_number ON bundles (number, id);

-- What each node has said of its bundles last.
CREATE TABLE bundle_nodes (
    node    TEXT PRIMARY KEY,
    name    TEXT NOT NULL,
    role    TEXT NOT NULL,
    labels  TEXT NOT NULL,
    active  TEXT NOT NULL,
    tried   TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    state   TEXT NOT NULL,
    reason  TEXT NOT NULL,
    said    INTEGER NOT NULL,
    at      REAL NOT NULL
) WITHOUT ROWID;

-- What this node was given (control/held_bundles.py): what it acts by, what it acted by before that, and what came of
-- others. `trial`: running, interrupted, or empty; `deaths`: how often the node has died in it.
CREATE TABLE held_bundles (
    id         TEXT PRIMARY KEY,
    attempt    INTEGER NOT NULL,
    state      TEXT NOT NULL,
    reason     TEXT NOT NULL,
    trial      TEXT NOT NULL,
    deaths     INTEGER NOT NULL,
    digest     TEXT NOT NULL,
    documents  TEXT NOT NULL,
    at         REAL NOT NULL,
    manifest   TEXT NOT NULL,
    signature  TEXT NOT NULL,
    bodies     TEXT NOT NULL
) WITHOUT ROWID;
CREATE UNIQUE INDEX held_bundles_active ON held_bundles (state) WHERE state = 'active';

-- The documents of the bundle that a node acts by, beside its own: what it acts by is this and, where none of the same
-- kind and name is here, its own.
CREATE TABLE bundle_documents (
    id         TEXT PRIMARY KEY,
    kind       TEXT NOT NULL,
    name       TEXT NOT NULL,
    body       TEXT NOT NULL,
    created_at REAL NOT NULL,
    updated_at REAL NOT NULL,
    updated_by TEXT NOT NULL,
    version    INTEGER NOT NULL
) WITHOUT ROWID;
CREATE VIEW all_documents AS
    SELECT d.*, 'local' AS origin, 0 AS shadows
      FROM documents d WHERE NOT EXISTS (SELECT 1 FROM bundle_documents b WHERE b.id = d.id)
    UNION ALL
    SELECT b.*, 'bundle' AS origin, EXISTS (SELECT 1 FROM documents d WHERE d.id = b.id) AS shadows
      FROM bundle_documents b;
