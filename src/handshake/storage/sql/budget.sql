-- Budgets: limits with what is spent and reserved under them.

-- name: budget_insert
INSERT INTO budget (scope, name, kind, most) VALUES (:scope, :name, :kind, :most)
ON CONFLICT (scope, name, kind) DO UPDATE SET in_force = 1;

-- name: budget_of
SELECT scope, name, kind, most, spent, reserved, warned, paused FROM budget
WHERE scope = :scope AND name = :name ORDER BY kind;

-- name: budgets_configured
SELECT scope, name, kind, most, spent, reserved, warned, paused FROM budget
WHERE scope <> 'session' AND in_force = 1 ORDER BY scope, name, kind;

-- name: budgets_of_open_work
SELECT b.scope, b.name, b.kind, b.most, b.spent, b.reserved, b.warned, b.paused FROM budget AS b
WHERE b.scope = 'session' AND b.name IN (
  SELECT session_id FROM job WHERE ended_at_us IS NULL
  UNION ALL SELECT session_id FROM job WHERE holds_slot = 1)
ORDER BY b.name, b.kind;

-- name: budget_put
UPDATE budget SET most = :most, spent = :spent, reserved = :reserved, warned = :warned, paused = :paused
WHERE scope = :scope AND name = :name AND kind = :kind;

-- name: budget_drop
UPDATE budget SET in_force = 0 WHERE scope = :scope AND name = :name AND kind = :kind;

-- name: budget_settle_abandoned
UPDATE budget SET spent = spent + reserved, reserved = 0 WHERE reserved > 0;
