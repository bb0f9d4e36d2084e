-- Events are found by their job, and a session's by its jobs: the ids of jobs grow with time, so that a commit touches
-- the end of the index, where an index by session would be touched in as many places as there are sessions.

DROP INDEX event_by_session;

CREATE INDEX event_by_job ON event (job_id) WHERE job_id IS NOT NULL;

CREATE INDEX event_of_session ON event (session_id) WHERE job_id IS NULL AND session_id IS NOT NULL;
