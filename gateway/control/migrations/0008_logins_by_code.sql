-- Whether a login began with a code that the keys of the data directory made (control/login_codes.py), not a password.
ALTER TABLE sessions ADD COLUMN by_code INTEGER NOT NULL DEFAULT 0;
