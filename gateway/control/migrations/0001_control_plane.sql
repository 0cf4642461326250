-- Times are Unix seconds. Lists and maps are JSON. `version` counts changes of a row (ETag).

CREATE TABLE devices (
    id           TEXT PRIMARY KEY,
    kind         TEXT NOT NULL,
    profile      TEXT NOT NULL,
    labels       TEXT NOT NULL,
    groups       TEXT NOT NULL,
    services     TEXT NOT NULL,
    routes       TEXT NOT NULL,
    enabled      INTEGER NOT NULL,
    firmware     TEXT NOT NULL,
    notes        TEXT NOT NULL,
    created_at   REAL NOT NULL,
    updated_at   REAL NOT NULL,
    last_seen_at REAL,
    not_before   REAL,
    version      INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX devices_created ON devices (created_at, id);
CREATE INDEX devices_updated ON devices (updated_at, id);
CREATE INDEX devices_seen ON devices (IFNULL(last_seen_at, 0), id);
CREATE INDEX devices_profile ON devices (profile, id);
CREATE INDEX devices_firmware ON devices (firmware, id);

-- A credential outlives its device: its token may still be around.
CREATE TABLE credentials (
    id         TEXT PRIMARY KEY,
    device_id  TEXT NOT NULL,
    type       TEXT NOT NULL,
    key_id     TEXT NOT NULL,
    token_id   TEXT NOT NULL,
    issued_at  REAL NOT NULL,
    expires_at REAL,
    ends_at    REAL,
    revoked_at REAL,
    reason     TEXT NOT NULL,
    public_key TEXT
) WITHOUT ROWID;
CREATE INDEX credentials_device ON credentials (device_id, issued_at, id);
CREATE INDEX credentials_issued ON credentials (issued_at, id);
CREATE INDEX credentials_token ON credentials (token_id) WHERE token_id <> '';
CREATE INDEX credentials_expiry ON credentials (expires_at) WHERE expires_at IS NOT NULL;

CREATE TABLE revocations (
    id         TEXT PRIMARY KEY,
    kind       TEXT NOT NULL,
    value      TEXT NOT NULL,
    issuer     TEXT NOT NULL,
    not_before REAL,
    created_at REAL NOT NULL,
    until      REAL,
    reason     TEXT NOT NULL,
    created_by TEXT NOT NULL,
    UNIQUE (kind, value, issuer)
) WITHOUT ROWID;
CREATE INDEX revocations_created ON revocations (created_at, id);

CREATE TABLE enrolments (
    id         TEXT PRIMARY KEY,
    secret     BLOB NOT NULL,
    device_id  TEXT,
    kind       TEXT NOT NULL,
    profile    TEXT NOT NULL,
    labels     TEXT NOT NULL,
    groups     TEXT NOT NULL,
    services   TEXT NOT NULL,
    routes     TEXT NOT NULL,
    uses       INTEGER NOT NULL,
    used       INTEGER NOT NULL,
    expires_at REAL NOT NULL,
    created_at REAL NOT NULL,
    created_by TEXT NOT NULL,
    revoked_at REAL,
    version    INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX enrolments_created ON enrolments (created_at, id);

CREATE TABLE fleets (
    id         TEXT PRIMARY KEY,
    name       TEXT NOT NULL,
    secret     BLOB NOT NULL,
    kind       TEXT NOT NULL,
    profile    TEXT NOT NULL,
    labels     TEXT NOT NULL,
    groups     TEXT NOT NULL,
    services   TEXT NOT NULL,
    routes     TEXT NOT NULL,
    expires_at REAL,
    created_at REAL NOT NULL,
    created_by TEXT NOT NULL,
    revoked_at REAL,
    version    INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX fleets_created ON fleets (created_at, id);

CREATE TABLE serials (
    fleet_id   TEXT NOT NULL REFERENCES fleets (id) ON DELETE CASCADE,
    serial     TEXT NOT NULL,
    device_id  TEXT,
    claimed_at REAL,
    PRIMARY KEY (fleet_id, serial)
) WITHOUT ROWID;

CREATE TABLE issuers (
    id         TEXT PRIMARY KEY,
    issuer     TEXT NOT NULL UNIQUE,
    jwks_url   TEXT,
    keys       TEXT NOT NULL,
    kinds      TEXT NOT NULL,
    services   TEXT NOT NULL,
    routes     TEXT NOT NULL,
    enabled    INTEGER NOT NULL,
    fetched_at REAL,
    error      TEXT NOT NULL,
    created_at REAL NOT NULL,
    updated_at REAL NOT NULL,
    version    INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE users (
    name                 TEXT PRIMARY KEY,
    password             TEXT NOT NULL,
    role                 TEXT NOT NULL,
    scopes               TEXT NOT NULL,
    enabled              INTEGER NOT NULL,
    must_change_password INTEGER NOT NULL,
    created_at           REAL NOT NULL,
    updated_at           REAL NOT NULL,
    last_login_at        REAL,
    version              INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE api_keys (
    id              TEXT PRIMARY KEY,
    name            TEXT NOT NULL,
    secret          BLOB NOT NULL,
    previous_secret BLOB,
    previous_until  REAL,
    role            TEXT NOT NULL,
    scopes          TEXT NOT NULL,
    enabled         INTEGER NOT NULL,
    created_at      REAL NOT NULL,
    created_by      TEXT NOT NULL,
    expires_at      REAL,
    last_used_at    REAL,
    version         INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX api_keys_created ON api_keys (created_at, id);

CREATE TABLE sessions (
    id              TEXT PRIMARY KEY,
    user            TEXT NOT NULL REFERENCES users (name) ON DELETE CASCADE,
    secret          BLOB NOT NULL,
    previous_secret BLOB,
    created_at      REAL NOT NULL,
    refreshed_at    REAL NOT NULL,
    expires_at      REAL NOT NULL,
    ip              TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX sessions_user ON sessions (user);

-- Rows are only ever added; each holds the digest of the one before it.
CREATE TABLE audit (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    at         REAL NOT NULL,
    actor_type TEXT NOT NULL,
    actor_id   TEXT NOT NULL,
    ip         TEXT NOT NULL,
    action     TEXT NOT NULL,
    object     TEXT NOT NULL,
    outcome    TEXT NOT NULL,
    reason     TEXT NOT NULL,
    request_id TEXT NOT NULL,
    before     TEXT,
    after      TEXT,
    diff       TEXT NOT NULL,
    digest     TEXT NOT NULL
);
CREATE INDEX audit_at ON audit (at);
CREATE INDEX audit_object ON audit (object, id);
CREATE INDEX audit_actor ON audit (actor_id, id);
CREATE TRIGGER audit_is_never_changed BEFORE UPDATE ON audit BEGIN SELECT RAISE(ABORT, 'audit rows are only added'); END;

CREATE TABLE revisions (
    id      INTEGER PRIMARY KEY AUTOINCREMENT,
    at      REAL NOT NULL,
    by      TEXT NOT NULL,
    text    TEXT NOT NULL,
    digest  TEXT NOT NULL,
    comment TEXT NOT NULL
);

CREATE TABLE idempotency (
    caller  TEXT NOT NULL,
    key     TEXT NOT NULL,
    digest  TEXT NOT NULL,
    at      REAL NOT NULL,
    status  INTEGER,
    headers TEXT NOT NULL,
    body    BLOB NOT NULL,
    PRIMARY KEY (caller, key)
) WITHOUT ROWID;
CREATE INDEX idempotency_at ON idempotency (at);

CREATE TABLE facts (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL
) WITHOUT ROWID;
