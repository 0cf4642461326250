-- What devices are to be configured with (control/device_configs.py). A version is a document that was set once; its
-- number is unique over all targets. At most one version of a target stands. Times are Unix seconds.
CREATE TABLE device_configs (
    version  INTEGER PRIMARY KEY AUTOINCREMENT,
    target   TEXT NOT NULL,
    document TEXT NOT NULL,
    standing INTEGER NOT NULL,
    at       REAL NOT NULL,
    by       TEXT NOT NULL,
    comment  TEXT NOT NULL
);
CREATE INDEX device_configs_target ON device_configs (target, version);
CREATE UNIQUE INDEX device_configs_standing ON device_configs (target) WHERE standing;

-- What each device has said of it: of the version that it was told last, and which one it took last.
CREATE TABLE device_config_reports (
    device_id  TEXT PRIMARY KEY,
    version    INTEGER NOT NULL,
    ok         INTEGER NOT NULL,
    reason     TEXT NOT NULL,
    at         REAL NOT NULL,
    applied    INTEGER,
    applied_at REAL
) WITHOUT ROWID;

-- A device is gone with all that is said of it alone, whoever deletes it; its id may be given to another one.
CREATE TRIGGER device_configs_without_device AFTER DELETE ON devices BEGIN
    DELETE FROM device_configs WHERE target = 'device:' || OLD.id;
    DELETE FROM device_config_reports WHERE device_id = OLD.id;
END;

-- The fleet of a device, which is asked for whenever it asks what holds for it.
CREATE INDEX serials_device ON serials (device_id) WHERE device_id IS NOT NULL;
