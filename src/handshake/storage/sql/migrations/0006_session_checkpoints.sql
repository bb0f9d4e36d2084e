-- A session's last checkpoint: how many there were, up to which message the last one goes, in which state, why and when.

ALTER TABLE session ADD COLUMN checkpoint_count INTEGER NOT NULL DEFAULT 0;
ALTER TABLE session ADD COLUMN checkpoint_seq INTEGER NOT NULL DEFAULT 0;
ALTER TABLE session ADD COLUMN checkpoint_state TEXT;
ALTER TABLE session ADD COLUMN checkpoint_trigger TEXT;
ALTER TABLE session ADD COLUMN checkpoint_at_us INTEGER;
-- Tokens of answers since then.
ALTER TABLE session ADD COLUMN streamed_tokens INTEGER NOT NULL DEFAULT 0;
