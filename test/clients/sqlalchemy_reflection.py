"""SQLAlchemy, and so Superset: what reflection finds in schema adclick, and a reflected view queried."""

import warnings

import sqlalchemy
from sqlalchemy import BIGINT, BOOLEAN, DATE, INTEGER, TEXT, func
from sqlalchemy.dialects.postgresql import TIMESTAMP
from sqlalchemy.types import NullType

from client import CLICKS, connect, done, equal, ok, rows, url, window

TABLES = ['ads', 'advertiser_roles', 'archived_volumes', 'bad_lines', 'clicks', 'differences', 'filters', 'most_clicked_ads', 'most_clicked_ads_daily', 'most_clicked_ads_hourly', 'reconciled_hours', 'reconciliations', 'restored_hours']
VIEWS = ['ad_click_counts', 'ad_click_counts_daily', 'ad_click_counts_hourly', 'click_log', 'clicks_per_minute', 'discarded_clicks', 'own_ads', 'sources', 'status', 'storage']

# It warns that it does not know composite types and indexes on expressions.
warnings.simplefilter('ignore', sqlalchemy.exc.SAWarning)

engine = sqlalchemy.create_engine(url('bi'))
inspector = sqlalchemy.inspect(engine)

equal(sorted(inspector.get_table_names('adclick')), TABLES, 'tables of schema adclick')
equal(sorted(inspector.get_view_names('adclick')), VIEWS, 'views')
equal(inspector.get_foreign_table_names('adclick'), [], 'no foreign table')
equal(inspector.get_table_names('public') + inspector.get_view_names('public'), [], 'nothing in schema public')
equal(sorted(inspector.get_pk_constraint('most_clicked_ads', 'adclick')['constrained_columns']),
      ['click_minute', 'filter_id'], 'the key of the lists')
equal(inspector.get_pk_constraint('ads', 'adclick')['constrained_columns'], ['ad_id'], 'the key of the ads')

columns = {name: inspector.get_columns(name, 'adclick') for name in TABLES + VIEWS}

uncommented = [name for name in TABLES if not inspector.get_table_comment(name, 'adclick')['text']]
equal(uncommented, [], 'each table has a comment')
equal([(name, column['name']) for name in columns for column in columns[name] if not column['comment']], [],
      'each column of each table and view has a comment')


def types(name):
    return [(column['name'], type(column['type']), getattr(column['type'], 'timezone', None))
            for column in columns[name]]


equal(types('ad_click_counts'),
      [('ad_id', BIGINT, None), ('advertiser_id', BIGINT, None), ('click_minute', TIMESTAMP, True),
       ('filter_id', INTEGER, None), ('click_count', BIGINT, None)], 'types of ad_click_counts')
equal(types('clicks_per_minute'),
      [('click_minute', TIMESTAMP, True), ('ad_id', BIGINT, None), ('advertiser_id', BIGINT, None),
       ('country', TEXT, None), ('region', TEXT, None), ('device', TEXT, None), ('click_count', BIGINT, None)],
      'types of clicks_per_minute')
equal(types('filters'), [('filter_id', INTEGER, None), ('country', TEXT, None), ('region', TEXT, None),
                         ('device', TEXT, None), ('last_day', DATE, None)], 'types of filters')
equal(types('ads'), [('ad_id', BIGINT, None), ('advertiser_id', BIGINT, None), ('redirect_url', TEXT, None),
                     ('website', TEXT, None), ('active', BOOLEAN, None), ('dedup_by', TEXT, None), ('created_at', TIMESTAMP, True)], 'types of ads')
equal(types('most_clicked_ads'),
      [('click_minute', TIMESTAMP, True), ('filter_id', INTEGER, None), ('most_clicked_ads', NullType, None),
       ('cut_off', BIGINT, None)], 'types of most_clicked_ads')

# Reflected views, queried as a tool would

metadata = sqlalchemy.MetaData(schema='adclick')
facts = sqlalchemy.Table('clicks_per_minute', metadata, autoload_with=engine)
counts = sqlalchemy.Table('ad_click_counts', metadata, autoload_with=engine)
filters = sqlalchemy.Table('filters', metadata, autoload_with=engine)
db = connect()
start, end = window(db)


def answer(query):
    with engine.connect() as connection:
        return [tuple(row) for row in connection.execute(query)]


clicks = func.sum(facts.c.click_count)
equal(answer(sqlalchemy.select(facts.c.country, facts.c.device, clicks)
             .where(facts.c.ad_id.in_([1001, 1002, 1003]), facts.c.click_minute.between(start, end))
             .group_by(facts.c.country, facts.c.device).order_by(facts.c.country, facts.c.device)),
      rows(db, f"""SELECT country, device, count(*) FROM {CLICKS} WHERE ad_id IN (1001, 1002, 1003)
                   GROUP BY 1, 2 ORDER BY 1, 2"""), 'clicks by country and device')
hour = func.date_trunc('hour', facts.c.click_minute)
equal(answer(sqlalchemy.select(hour, clicks).where(facts.c.country == 'CA').group_by(hour).order_by(hour)),
      rows(db, f"SELECT date_trunc('hour', click_minute), count(*) FROM {CLICKS} WHERE country = 'CA'"
               ' GROUP BY 1 ORDER BY 1'), 'by hour')
equal(answer(sqlalchemy.select(counts.c.ad_id, func.sum(counts.c.click_count).label('clicks'))
             .join_from(counts, filters, counts.c.filter_id == filters.c.filter_id)
             .where(filters.c.region == 'Île-de-France').group_by(counts.c.ad_id)
             .order_by(sqlalchemy.desc('clicks'), counts.c.ad_id).limit(10)),
      rows(db, f"""SELECT ad_id, count(*) FROM {CLICKS} WHERE region = 'Île-de-France'
                   GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 10"""), 'the view joined with filters, top ten')
ok(len(answer(sqlalchemy.select(facts).limit(100))) == 100, 'a preview: LIMIT and no WHERE')

top = func.adclick.top_n_ads_between(3, start, end).table_valued('rank', 'ad_id', 'click_count')
equal(answer(sqlalchemy.select(top)), rows(db, 'SELECT * FROM adclick.top_n_ads_between(3, %s, %s)', (start, end)),
      'a function as a table')

done()
