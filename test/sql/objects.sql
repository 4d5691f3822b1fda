-- What the extension consists of: comments, function attributes, privileges.
CREATE EXTENSION adclick;

-- Objects without a comment; indexes and constraints that belong to a table aside,
-- and what is made along with a table or an operator class.
WITH members AS (
	SELECT classid, objid FROM pg_depend
	WHERE refclassid = 'pg_extension'::regclass AND deptype = 'e'
		AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'adclick')
)
SELECT pg_describe_object(classid, objid, 0)
FROM members
WHERE obj_description(objid, classid::regclass::name) IS NULL
	AND classid NOT IN ('pg_opfamily'::regclass, 'pg_type'::regclass)
	AND NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = objid AND classid = 'pg_class'::regclass AND relkind = 'S')
ORDER BY 1;

-- Columns of published relations without a comment.
SELECT attrelid::regclass, attname
FROM pg_attribute JOIN pg_class c ON c.oid = attrelid
WHERE relnamespace = 'adclick'::regnamespace AND relkind IN ('r', 'p', 'v', 'f', 'm') AND attnum > 0 AND NOT attisdropped
	AND col_description(attrelid, attnum) IS NULL
ORDER BY 1, attnum;

-- Published relations: plain tables and views, times with their zone.
SELECT relname, relkind, obj_description(c.oid, 'pg_class') AS comment
FROM pg_class c
WHERE relnamespace = 'adclick'::regnamespace AND relkind IN ('r', 'p', 'v', 'f', 'm') ORDER BY 1;
SELECT attrelid::regclass, attname, format_type(atttypid, atttypmod) AS type, attnotnull AS not_null,
	pg_get_expr(adbin, adrelid) AS "default"
FROM pg_attribute a JOIN pg_class c ON c.oid = attrelid
	LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
WHERE relnamespace = 'adclick'::regnamespace AND relkind IN ('r', 'p', 'v', 'f', 'm') AND attnum > 0
ORDER BY 1, attnum;

-- Functions: v volatility, p parallel, d security definer; search_path is pinned
-- wherever C code runs SQL.
SELECT oid::regprocedure AS function, pg_get_function_result(oid) AS result, provolatile AS v, proparallel AS p,
	proisstrict AS strict, prosecdef AS d, proconfig AS settings
FROM pg_proc WHERE pronamespace IN ('adclick'::regnamespace, 'adclick_internal'::regnamespace, 'adclick_api'::regnamespace)
ORDER BY oid::regprocedure::text COLLATE "C";

-- Privileges of everybody.
CREATE ROLE regress_nobody;
SELECT oid::regprocedure AS function FROM pg_proc
WHERE pronamespace IN ('adclick'::regnamespace, 'adclick_internal'::regnamespace, 'adclick_api'::regnamespace)
	AND has_function_privilege('regress_nobody', oid, 'EXECUTE')
ORDER BY oid::regprocedure::text COLLATE "C";
SELECT nspname, has_schema_privilege('regress_nobody', oid, 'USAGE') AS usage,
	has_schema_privilege('regress_nobody', oid, 'CREATE') AS "create"
FROM pg_namespace WHERE nspname LIKE 'adclick%' ORDER BY 1;
SELECT oid::regclass FROM pg_class
WHERE relnamespace IN ('adclick'::regnamespace, 'adclick_internal'::regnamespace) AND relkind IN ('r', 'p', 'v', 'f', 'S')
	AND CASE relkind WHEN 'S' THEN has_sequence_privilege('regress_nobody', oid, 'USAGE')
		ELSE has_any_column_privilege('regress_nobody', oid, 'SELECT, INSERT, UPDATE, REFERENCES')
			OR has_table_privilege('regress_nobody', oid, 'DELETE, TRUNCATE, TRIGGER') END;
SELECT fdwname, has_foreign_data_wrapper_privilege('regress_nobody', w.oid, 'USAGE') AS wrapper,
	srvname, has_server_privilege('regress_nobody', s.oid, 'USAGE') AS server
FROM pg_foreign_data_wrapper w JOIN pg_foreign_server s ON srvfdw = w.oid;
DROP ROLE regress_nobody;

-- Settings, as they stand by default.
SELECT name, boot_val, unit, min_val, max_val, vartype, context, enumvals
FROM pg_settings WHERE name LIKE 'adclick.%' ORDER BY 1;

-- The table clicks are inserted into: of an access method of its own, without indexes.
SELECT relkind, amname, relpersistence, (SELECT count(*) FROM pg_index WHERE indrelid = c.oid) AS indexes
FROM pg_class c JOIN pg_am a ON a.oid = relam WHERE c.oid = 'adclick.clicks'::regclass;

DROP EXTENSION adclick CASCADE;
