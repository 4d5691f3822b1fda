"""ODBC: psqlodbc by unixODBC, without a DSN; catalogue functions, parameters, inserts."""

import glob
import os
import tempfile

import pyodbc

from client import CLICKS, PASSWORDS, connect, done, equal, ok, rows, window

# What this machine has configured is not asked.
configuration = tempfile.TemporaryDirectory()
os.environ['ODBCSYSINI'] = os.environ['ODBCHOME'] = configuration.name
os.environ['ODBCINI'] = '/dev/null'
driver, = glob.glob('/usr/lib/*/odbc/psqlodbcw.so')
with open(os.path.join(configuration.name, 'odbcinst.ini'), 'w') as file:
    file.write(f'[adclick tests]\nDriver={driver}\n')


def odbc(role):
    return pyodbc.connect(
        f"DRIVER={{adclick tests}};Server=127.0.0.1;Port={os.environ['PGPORT']};"
        f"Database={os.environ['PGDATABASE']};UID={role};PWD={PASSWORDS[role]};"
        'UseServerSidePrepare=1;BoolsAsChar=0', autocommit=True)


db = connect()
bi = odbc('bi')
cursor = bi.cursor()


def answer(query, *parameters):
    return [tuple(row) for row in cursor.execute(query, *parameters)]


# SQLTables and SQLColumns

listed = [(row.table_name, row.table_type) for row in cursor.tables(schema='adclick')]
equal(sorted(listed),
      [('ad_click_counts', 'VIEW'), ('ad_click_counts_daily', 'VIEW'), ('ad_click_counts_hourly', 'VIEW'), ('ads', 'TABLE'), ('advertiser_roles', 'TABLE'), ('archived_volumes', 'TABLE'), ('bad_lines', 'TABLE'), ('click_log', 'VIEW'), ('clicks', 'TABLE'), ('clicks_per_minute', 'VIEW'),
       ('differences', 'TABLE'), ('discarded_clicks', 'VIEW'), ('filters', 'TABLE'), ('most_clicked_ads', 'TABLE'),
       ('most_clicked_ads_daily', 'TABLE'), ('most_clicked_ads_hourly', 'TABLE'), ('own_ads', 'VIEW'), ('reconciled_hours', 'TABLE'), ('reconciliations', 'TABLE'), ('restored_hours', 'TABLE'), ('sources', 'VIEW'), ('status', 'VIEW'), ('storage', 'VIEW')],
      'SQLTables lists what people use, and nothing else')
equal([(row.column_name, row.type_name) for row in cursor.columns('clicks_per_minute', schema='adclick')],
      [('click_minute', 'timestamptz'), ('ad_id', 'int8'), ('advertiser_id', 'int8'), ('country', 'text'),
       ('region', 'text'), ('device', 'text'), ('click_count', 'int8')], 'SQLColumns of a view')
equal([row.column_name for row in cursor.primaryKeys('ads', schema='adclick')], ['ad_id'], 'SQLPrimaryKeys')
ok({'top_n_ads', 'ad_click_count', 'click_series'} <=
   {row.procedure_name for row in cursor.procedures(schema='adclick')}, 'SQLProcedures lists the questions')

# Questions with parameters

start, end = window(db)
equal(answer("""SELECT country, sum(click_count)::bigint FROM adclick.clicks_per_minute
                WHERE ad_id = ? AND region = ? AND click_minute >= ? AND click_minute < ? GROUP BY 1 ORDER BY 1""",
             1001, 'Île-de-France', start, end),
      rows(db, f"""SELECT country, count(*) FROM {CLICKS} WHERE ad_id = 1001 AND region = 'Île-de-France'
                   GROUP BY 1 ORDER BY 1"""), 'a view')
query = 'SELECT rank, ad_id, click_count FROM adclick.top_n_ads(?, 60, CAST(? AS jsonb))'
for country in 'CA', 'US', 'FR', 'unknown', 'XX':
    equal(answer(query, 10, f'{{"country": "{country}"}}'),
          rows(db, f"""SELECT row_number() OVER (ORDER BY count(*) DESC, ad_id), ad_id, count(*)
                       FROM {CLICKS} WHERE country = %s GROUP BY ad_id ORDER BY 1 LIMIT 10""", (country,)),
          f'the top ten of {country}, the same statement')
equal(answer('SELECT "time" AT TIME ZONE \'UTC\', click_count'
             " FROM adclick.click_series(?, ?, ?, interval '10 minutes')", 1001, start, end),
      rows(db, """SELECT "time" AT TIME ZONE 'UTC', click_count
                  FROM adclick.click_series(1001, %s, %s, interval '10 minutes')""", (start, end)), 'a series')

try:
    answer('SELECT adclick.ad_click_count(?, 60, CAST(? AS jsonb))', 1001, '{"city": "Montreal"}')
    ok(False, 'an error has its SQLSTATE', 'no error')
except pyodbc.Error as error:
    equal(error.args[0], '22023', 'an error has its SQLSTATE')

# Clicks sent

odbc('shop').cursor().executemany(
    'INSERT INTO adclick.clicks (ad_id, user_id, ip, country) VALUES (?, ?, CAST(? AS inet), ?)',
    [(7003, i, f'2001:db8::{i:x}', 'DE') for i in range(1, 31)])
equal(answer("""SELECT adclick.ad_click_count(7003, 60), adclick.ad_click_count(7003, 60, '{"country": "DE"}')"""),
      [(30, 30)], 'clicks sent count')

bi.close()
done()
