-- A lane is one class of one destination. A message's number is lane << 40 | position, so that one tree holds them all:
-- an append goes to the end of its lane, and a lane is read and emptied from its start.

CREATE TABLE lanes (
    id          INTEGER PRIMARY KEY,
    destination TEXT NOT NULL,
    priority    INTEGER NOT NULL,
    UNIQUE (destination, priority)
);

CREATE TABLE messages (
    number  INTEGER PRIMARY KEY,
    epoch   INTEGER NOT NULL,
    seq     INTEGER NOT NULL,
    running INTEGER NOT NULL, -- when it was accepted: milliseconds that the store had run for
    wall    INTEGER NOT NULL, -- and Unix milliseconds, for what they are worth
    ttl     INTEGER,          -- milliseconds, where the message has a limit of its own
    lane    INTEGER,          -- set where the last value of a key is looked for
    crc     INTEGER NOT NULL,
    key     BLOB NOT NULL,
    payload BLOB NOT NULL
);
CREATE INDEX messages_by_key ON messages (lane, key, number) WHERE lane IS NOT NULL;

-- Damaged records, as they were found, until an operator has looked at them.
CREATE TABLE quarantine (
    number  INTEGER PRIMARY KEY,
    found   INTEGER NOT NULL,
    record  BLOB NOT NULL
);

-- Messages that left other than by delivery.
CREATE TABLE losses (
    destination TEXT NOT NULL,
    reason      TEXT NOT NULL,
    messages    INTEGER NOT NULL,
    bytes       INTEGER NOT NULL,
    PRIMARY KEY (destination, reason)
) WITHOUT ROWID;

-- One row: the last epoch given out, and the clocks when they were last looked at.
CREATE TABLE state (
    one     INTEGER PRIMARY KEY CHECK (one = 1),
    epoch   INTEGER NOT NULL,
    running INTEGER NOT NULL
);

-- The receiver's side: what has come from whom, in the transaction of its effect. `above`: ranges beyond `settled`.
CREATE TABLE arrivals (
    node     TEXT NOT NULL,
    lane     TEXT NOT NULL,
    epoch    INTEGER NOT NULL,
    oldest   INTEGER NOT NULL,
    settled  INTEGER NOT NULL,
    above    TEXT NOT NULL,
    missing  INTEGER NOT NULL,
    PRIMARY KEY (node, lane, epoch)
) WITHOUT ROWID;
