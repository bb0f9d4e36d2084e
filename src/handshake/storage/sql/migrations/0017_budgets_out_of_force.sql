-- A limit that is taken out of the configuration and put back goes on from what was spent under it.

ALTER TABLE budget ADD COLUMN in_force INTEGER NOT NULL DEFAULT 1 CHECK (in_force IN (0, 1));
