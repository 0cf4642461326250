-- What devices can be updated to. The image is a file named by its SHA-256 (storage/images.py), `publisher` and
-- `signature` are base64url, empty where nobody has signed it.
CREATE TABLE firmware (
    id         TEXT PRIMARY KEY,
    board      TEXT NOT NULL,
    version    TEXT NOT NULL,
    size       INTEGER NOT NULL,
    sha256     TEXT NOT NULL,
    notes      TEXT NOT NULL,
    publisher  TEXT NOT NULL,
    signature  TEXT NOT NULL,
    created_at REAL NOT NULL,
    created_by TEXT NOT NULL,
    UNIQUE (board, version)
) WITHOUT ROWID;
CREATE INDEX firmware_created ON firmware (created_at, id);
CREATE INDEX firmware_image ON firmware (sha256);

-- Which devices are to get a firmware. `forgiven` failures are not counted: there were so many when it was resumed.
CREATE TABLE rollouts (
    id               TEXT PRIMARY KEY,
    firmware_id      TEXT NOT NULL,
    board            TEXT NOT NULL,
    firmware_version TEXT NOT NULL,
    labels           TEXT NOT NULL,
    groups           TEXT NOT NULL,
    profile          TEXT NOT NULL,
    percentage       REAL NOT NULL,
    state            TEXT NOT NULL,
    reason           TEXT NOT NULL,
    max_failures     INTEGER NOT NULL,
    forgiven         INTEGER NOT NULL,
    confirm_s        REAL NOT NULL,
    created_at       REAL NOT NULL,
    created_by       TEXT NOT NULL,
    updated_at       REAL NOT NULL,
    version          INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX rollouts_created ON rollouts (created_at, id);
CREATE INDEX rollouts_board ON rollouts (board, created_at) WHERE state <> 'aborted';
CREATE INDEX rollouts_firmware ON rollouts (firmware_id);

CREATE TABLE rollout_devices (
    rollout_id TEXT NOT NULL,
    device_id  TEXT NOT NULL,
    state      TEXT NOT NULL,
    received   INTEGER NOT NULL,
    reason     TEXT NOT NULL,
    offered_at REAL NOT NULL,
    started_at REAL,
    trial_at   REAL,
    ended_at   REAL,
    updated_at REAL NOT NULL,
    PRIMARY KEY (rollout_id, device_id)
) WITHOUT ROWID;
CREATE INDEX rollout_devices_device ON rollout_devices (device_id, offered_at);
CREATE INDEX rollout_devices_state ON rollout_devices (rollout_id, state, device_id);
CREATE INDEX rollout_devices_trial ON rollout_devices (trial_at) WHERE state IN ('verified', 'trial');
