#!/bin/bash
# SPDX-License-Identifier: MIT
# timeout: 300
# modes: auto lock
# sqlite3: a table of a million rows (300,000 in the short form), indexes, sorts, joins, text functions.
. "$(dirname "$0")/lib.sh"
need sqlite3
rows=$(long && echo 1000000 || echo 300000)
cat >"$tmp/work.sql" <<SQL
PRAGMA journal_mode=WAL;
CREATE TABLE t(id INTEGER PRIMARY KEY, k INTEGER, name TEXT, v REAL);
BEGIN;
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < $rows)
INSERT INTO t SELECT i, (i * 7919) % 100003, printf('name-%d-%s', i % 5003, hex(i * 31)), i / 7.0 FROM n;
COMMIT;
CREATE INDEX t_k ON t(k);
CREATE INDEX t_name ON t(name, v);
SELECT count(*), sum(k), round(total(v), 3), max(name) FROM t;
SELECT k % 10, count(*), group_concat(substr(name, 1, 3)) LIKE 'nam%' FROM t WHERE k < 2000 GROUP BY 1 ORDER BY 1;
SELECT count(*) FROM t a JOIN t b ON b.k = a.k + 1 WHERE a.id % 50 = 0;
SELECT length(group_concat(upper(name), ';')) FROM (SELECT name FROM t ORDER BY v DESC, name LIMIT 20000);
UPDATE t SET name = name || '-' || k WHERE id % 7 = 0;
DELETE FROM t WHERE k % 11 = 3;
VACUUM;
PRAGMA integrity_check;
SELECT count(*), sum(length(name)) FROM t;
SQL
same rows sqlite3 -batch rows.db ".read $tmp/work.sql"
same dump sh -c "sqlite3 -batch :memory: \".read $tmp/work.sql\" .dump | sha256sum"
finish
