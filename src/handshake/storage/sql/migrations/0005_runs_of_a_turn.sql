-- A turn may take several runs: each has its place in the turn, and the step at which it goes on when it starts.

ALTER TABLE job ADD COLUMN run_seq INTEGER NOT NULL DEFAULT 1 CHECK (run_seq >= 1);
ALTER TABLE job ADD COLUMN step TEXT NOT NULL DEFAULT 'call' CHECK (step IN ('call', 'tools'));
