-- A run that carries out tools is running and holds no connection.

DROP INDEX job_holding;

CREATE INDEX job_holding ON job (enqueue_seq) WHERE holds_slot = 1 OR state = 'running';

-- Whether anything in a session's thread is untrusted, so that its runs are tainted from then on.
ALTER TABLE session ADD COLUMN tainted INTEGER NOT NULL DEFAULT 0 CHECK (tainted IN (0, 1));
