-- What has been taken of what devices post: of each epoch the last number. `used`: minutes that the store had run for.

CREATE TABLE posts (
    subject TEXT NOT NULL,
    epoch   INTEGER NOT NULL,
    seq     INTEGER NOT NULL,
    used    INTEGER NOT NULL,
    PRIMARY KEY (subject, epoch)
) WITHOUT ROWID;
CREATE INDEX posts_by_use ON posts (used);
