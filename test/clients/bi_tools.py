"""What docs/bi.md says, and how Grafana, Metabase and Superset look for tables and ask about times."""

from client import CLICKS, connect, done, equal, ok, rows, sql_blocks, value

db = connect()
bi = connect('bi')
bi.autocommit = True

USED = ['ad_click_counts', 'ads', 'clicks_per_minute', 'filters', 'status']
READABLE = sorted(USED + ['ad_click_counts_daily', 'ad_click_counts_hourly', 'archived_volumes', 'differences', 'most_clicked_ads', 'most_clicked_ads_daily',
                          'most_clicked_ads_hourly', 'own_ads', 'reconciled_hours', 'reconciliations', 'restored_hours', 'sources', 'storage'])

# What the tools list, for a role with the grants of the page

equal(rows(bi, """SELECT table_schema, table_name FROM information_schema.tables
                  WHERE table_schema NOT IN ('information_schema', 'pg_catalog') ORDER BY 2"""),
      [('adclick', name) for name in READABLE], 'Grafana: all tables of the information schema')
equal(rows(bi, """SELECT n.nspname::text, c.relname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                  WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
                      AND c.relkind IN ('r', 'p', 'v', 'f', 'm') AND has_table_privilege(c.oid, 'SELECT')
                  ORDER BY 2"""),
      [('adclick', name) for name in READABLE], 'Metabase: all relations it may read')
equal(rows(bi, """SELECT c.oid::regclass::text FROM pg_class c WHERE c.relnamespace = 'adclick'::regnamespace
                  AND (c.relkind IN ('f', 'm') OR c.relispartition)"""),
      [], 'Superset, which lists foreign tables too: none in the schema, nor a partition')
equal(rows(bi, """SELECT table_name::text, column_name::text FROM information_schema.columns
                  WHERE table_schema = 'adclick' AND data_type = 'timestamp without time zone'"""),
      [], 'all times have a zone')
equal(rows(bi, """SELECT c.oid::regclass::text, a.attname::text FROM pg_class c
                  JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
                  WHERE c.relnamespace = 'adclick'::regnamespace AND c.relkind IN ('r', 'p', 'v')
                      AND (obj_description(c.oid, 'pg_class') IS NULL OR col_description(c.oid, a.attnum) IS NULL)"""),
      [], 'each relation and column has a comment')

# What they ask on their own

for name in USED:
    ok(rows(bi, f'SELECT * FROM adclick.{name} LIMIT 100'), f'a preview of {name}')
ok(rows(bi, """SELECT substring("country", 1, 1234), "click_count", "click_minute"
               FROM "adclick"."clicks_per_minute" LIMIT 10000"""), 'Metabase: a sample')
equal(rows(bi, """SELECT "country" FROM "adclick"."clicks_per_minute"
                  GROUP BY "country" ORDER BY "country" ASC LIMIT 1000"""),
      rows(db, f'SELECT DISTINCT country FROM {CLICKS} ORDER BY 1'), 'Metabase: values of a field')

# Time ranges as each of them writes them

RANGES = {
    'Grafana': """{} BETWEEN '2020-01-01T00:00:00Z' AND '2999-01-01T00:00:00.123Z'""",
    'Metabase, the last 15 minutes': """{0} >= DATE_TRUNC('minute', NOW() + INTERVAL '-15 minute')
        AND {0} < DATE_TRUNC('minute', NOW())""",
    'Metabase, today': """{0} >= CAST(NOW() AS date) AND {0} < CAST(NOW() + INTERVAL '1 day' AS date)""",
    'Metabase, by date': """CAST({} AS date) >= CURRENT_DATE - 1""",
    'Superset': """{0} >= TO_TIMESTAMP('2020-01-01 00:00:00.000000', 'YYYY-MM-DD HH24:MI:SS.US')
        AND {0} < TO_TIMESTAMP('2999-01-01 00:00:00.000000', 'YYYY-MM-DD HH24:MI:SS.US')"""}
CLICKS_IN = 'SELECT ad_id, {} AS clicks FROM {} WHERE {} GROUP BY ad_id'
utc = connect()
rows(utc, "SELECT set_config('TimeZone', 'UTC', false)")
for tool, condition in RANGES.items():
    viewed = CLICKS_IN.format('sum(click_count)', 'adclick.clicks_per_minute', condition.format('click_minute'))
    counted = CLICKS_IN.format('count(*)', CLICKS, condition.format('click_minute'))
    # in one statement, so that now() is the same
    equal(rows(utc, f"""SELECT * FROM ({viewed}) v FULL JOIN ({counted}) c USING (ad_id)
                        WHERE v.clicks IS DISTINCT FROM c.clicks"""), [], f'a range as {tool} writes it')

# The page

blocks = sql_blocks('docs/bi.md')
equal(len(blocks), 5, 'the page has two roles and three questions')
with db.cursor() as cursor:
    cursor.execute(blocks[1])
    cursor.execute('SET LOCAL ROLE bi_acme')
    cursor.execute('SELECT ad_id, sum(click_count)::bigint FROM adclick.clicks_per_minute GROUP BY 1 ORDER BY 1')
    seen = cursor.fetchall()
    cursor.execute('RESET ROLE')
ok(seen, 'an advertiser has clicks')
equal(seen, rows(db, f'SELECT ad_id, count(*) FROM {CLICKS} JOIN adclick.ads a USING (ad_id) WHERE a.advertiser_id = 3 GROUP BY 1 ORDER BY 1'),
      'and sees those of his own ads')
db.rollback()
equal(value(bi, "SELECT current_setting('TimeZone') || ', ' || current_setting('statement_timeout')"), 'UTC, 1min',
      'settings of its role')
SINCE = "click_minute >= now() - interval '{}'"
EXPECTED = [
    f"SELECT date_trunc('hour', click_minute), country, count(*) FROM {CLICKS}"
    f" WHERE {SINCE.format('1 day')} GROUP BY 1, 2 ORDER BY 1, 2",
    f"""SELECT row_number() OVER (ORDER BY count(*) DESC, ad_id), ad_id, a.advertiser_id, a.website, count(*)
        FROM {CLICKS} LEFT JOIN adclick.ads a USING (ad_id)
        WHERE {SINCE.format('1 hour')} GROUP BY ad_id, a.advertiser_id, a.website ORDER BY 1 LIMIT 10""",
    f"""SELECT (click_minute AT TIME ZONE 'Europe/Paris')::date, device, count(*) FROM {CLICKS}
        WHERE ad_id = 1001 AND {SINCE.format('7 days')} GROUP BY 1, 2 ORDER BY 1, 2"""]
for number, (block, expected) in enumerate(zip(blocks[2:], EXPECTED), 1):
    found = rows(bi, block)
    ok(found, f'question {number} of the page has an answer')
    equal(found, rows(utc, expected), f'question {number} of the page: the right one')

done()
