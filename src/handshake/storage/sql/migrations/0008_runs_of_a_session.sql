-- A session's runs are a chain: each names the one before it, and the session the last. An index by session was touched
-- in as many places as there are sessions; a chain touches only rows that a commit writes anyway.

ALTER TABLE job ADD COLUMN before_seq INTEGER CHECK (before_seq < enqueue_seq);
ALTER TABLE session ADD COLUMN last_job_seq INTEGER;

UPDATE job SET before_seq = (
  SELECT max(earlier.enqueue_seq) FROM job AS earlier INDEXED BY job_by_session
  WHERE earlier.session_id = job.session_id AND earlier.enqueue_seq < job.enqueue_seq);

UPDATE session SET last_job_seq = (
  SELECT max(j.enqueue_seq) FROM job AS j INDEXED BY job_by_session WHERE j.session_id = session.session_id);

DROP INDEX job_by_session;
