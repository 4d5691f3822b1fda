"""SQLAlchemy's ORM sends clicks and gets their ids back, by the grants the README names."""

import sqlalchemy
from sqlalchemy import BigInteger, Column, FetchedValue, String, Table
from sqlalchemy.dialects.postgresql import UUID
from sqlalchemy.orm import Session, declarative_base

from client import connect, done, equal, raises, rows, value

base = declarative_base()


class Click(base):
    __table__ = Table('clicks', base.metadata, Column('click_id', UUID, primary_key=True, server_default=FetchedValue()),
                      Column('ad_id', BigInteger), Column('country', String), schema='adclick')


db = connect()
db.autocommit = True
with db.cursor() as cursor:
    cursor.execute('CREATE ROLE orm LOGIN IN ROLE adclick_reader;'
                   'GRANT INSERT (click_id, ad_id, country) ON adclick.clicks TO orm')

orm = connect('orm')
RETURNING = 'INSERT INTO adclick.clicks (ad_id) VALUES (7201) RETURNING click_id'
raises('42501', 'no id comes back without the grant', rows, orm, RETURNING)
orm.rollback()
with db.cursor() as cursor:
    cursor.execute('GRANT SELECT (click_id) ON adclick.clicks TO orm')
returned = value(orm, RETURNING)
equal(value(orm, 'SELECT adclick.ad_click_count(7201, 60)'), 1, 'with it the click is sent')
orm.commit()
equal(value(db, 'SELECT click_id FROM adclick.click_log WHERE ad_id = 7201'), returned, 'and its id comes back')
raises('42501', 'other columns do not', rows, orm, 'INSERT INTO adclick.clicks (ad_id) VALUES (7201) RETURNING *')
orm.rollback()
raises('42501', 'nor are they read', rows, orm, 'SELECT ad_id FROM adclick.clicks')
orm.rollback()

with Session(sqlalchemy.create_engine('postgresql+psycopg2://', creator=lambda: connect('orm')), expire_on_commit=False) as session:
    clicks = [Click(ad_id=7202, country=country) for country in ('CA', 'FR')]
    session.add_all(clicks)
    session.commit()
equal(sorted((str(click.click_id), click.country) for click in clicks),
      rows(db, 'SELECT click_id::text, country FROM adclick.click_log WHERE ad_id = 7202 ORDER BY 1'),
      'the ORM knows the ids of what it sent')
equal(value(db, 'SELECT adclick.ad_click_count(7202, 60)'), 2, 'and its clicks count')

done()
