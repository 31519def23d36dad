-- SPDX-License-Identifier: MIT
-- 300,000 rows in memory: indexes, sorts, joins, text functions.
CREATE TABLE t(id INTEGER PRIMARY KEY, k INTEGER, name TEXT, v REAL);
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300000)
INSERT INTO t SELECT i, (i * 7919) % 100003, printf('name-%d-%s', i % 5003, hex(i * 31)), i / 7.0 FROM n;
CREATE INDEX t_k ON t(k);
CREATE INDEX t_name ON t(name, v);
SELECT count(*), sum(k), max(name) FROM t;
SELECT count(*) FROM t a JOIN t b ON b.k = a.k + 1 WHERE a.id % 5 = 0;
SELECT length(group_concat(upper(name), ';')) FROM (SELECT name FROM t ORDER BY v DESC, name LIMIT 50000);
UPDATE t SET name = name || '-' || k WHERE id % 7 = 0;
DELETE FROM t WHERE k % 11 = 3;
SELECT count(*), sum(length(name)) FROM t;
