"""The sample: two weeks of a payments company, made inside DuckDB, the same on every start.

Four streams and four tables that together use every ksqlDB type, with the lineage TRANSACTION_STREAM ->
TRANSACTION_FLATTENED -> USER_TRANSACTION_SUMMARY. Nothing in it comes from a clock or a random generator.
"""

from __future__ import annotations

from ksql_lake.devserver.catalog import Catalog
from ksql_lake.devserver.columns import Source, quoted
from ksql_lake.devserver.statements import Create, parse_statements

FIRST_DAY_MS = 1_736_121_600_000
"""2025-01-06T00:00:00Z."""
DAY_MS = 86_400_000
MERCHANTS = 500

# A fixed, well mixed number below n for row i; `salt` makes columns independent of each other. Squaring modulo a
# prime breaks up the straight lines that multiplication alone would draw.
_SCRAMBLE = "CREATE OR REPLACE MACRO scramble(x) AS x * x % 2147483647 * 16807 % 2147483647"
_MIX = "CREATE OR REPLACE MACRO mix(i, salt, n) AS scramble((i * 48271 + salt * 7919777) % 2147483647) % n"
_PICK = "CREATE OR REPLACE MACRO pick(i, salt, options) AS options[1 + mix(i, salt, len(options))]"
_TEXT = {
    "currencies": "['EUR', 'USD', 'GBP', 'CHF', 'PLN', 'SEK']",
    "categories": "['grocery', 'travel', 'fuel', 'restaurant', 'electronics', 'pharmacy', 'books', 'café']",
    "countries": "['DE', 'FR', 'GB', 'CH', 'PL', 'SE', 'US', 'NL']",
    "networks": "['visa', 'mastercard', 'amex', 'girocard']",
}

_DDL = """
CREATE STREAM TRANSACTION_STREAM (
  TRANSACTION_ID STRING KEY, USER_ID BIGINT,
  CARD STRUCT<NETWORK STRING, LAST4 STRING, EXPIRES DATE>,
  AMOUNT DECIMAL(12, 2), CURRENCY STRING,
  MERCHANT STRUCT<ID INTEGER, NAME STRING, CATEGORY STRING, COUNTRY STRING,
                  LOCATION STRUCT<LAT DOUBLE, LON DOUBLE>>,
  ITEMS ARRAY<STRUCT<SKU STRING, QUANTITY INTEGER, PRICE DECIMAL(10, 2)>>,
  ATTRIBUTES MAP<STRING, STRING>, SIGNATURE BYTES, IS_ONLINE BOOLEAN, RISK_SCORE DOUBLE,
  EVENT_TIME TIMESTAMP, SETTLEMENT_DATE DATE, LOCAL_TIME TIME
) WITH (KAFKA_TOPIC='transactions', VALUE_FORMAT='JSON', PARTITIONS=4);

CREATE STREAM LOGIN_EVENTS (
  USER_ID BIGINT KEY, SESSION_ID STRING, SUCCESSFUL BOOLEAN, ATTEMPTS INTEGER, IP STRING,
  DEVICE STRUCT<OS STRING, MODEL STRING, SCREEN ARRAY<INTEGER>>,
  LATENCIES_MS ARRAY<INTEGER>, COUNTERS MAP<STRING, BIGINT>, LOGGED_IN_AT TIMESTAMP
) WITH (KAFKA_TOPIC='logins', VALUE_FORMAT='JSON', PARTITIONS=4);

CREATE STREAM CARD_AUTHORIZATIONS (
  AUTHORIZATION_ID BIGINT KEY, TRANSACTION_ID STRING, APPROVED BOOLEAN, RESPONSE_CODE INTEGER,
  AMOUNT DECIMAL(12, 2), AUTHORIZED_AT BIGINT, EXPIRES_ON DATE, CUTOFF TIME, CRYPTOGRAM BYTES,
  MODEL_SCORES ARRAY<DOUBLE>, REASONS MAP<INTEGER, STRING>
) WITH (KAFKA_TOPIC='authorizations', VALUE_FORMAT='AVRO', PARTITIONS=4, TIMESTAMP='AUTHORIZED_AT');

CREATE SOURCE TABLE MERCHANTS (
  MERCHANT_ID INTEGER PRIMARY KEY, NAME STRING, CATEGORY STRING, COUNTRY STRING, RATING DOUBLE,
  MONTHLY_LIMIT DECIMAL(14, 2), ACTIVE BOOLEAN, ONBOARDED_ON DATE, OPENS_AT TIME, TAGS ARRAY<STRING>
) WITH (KAFKA_TOPIC='merchants', VALUE_FORMAT='JSON', PARTITIONS=4);

CREATE SOURCE TABLE FX_RATES (
  RATE_DATE DATE PRIMARY KEY, CURRENCY STRING PRIMARY KEY, RATE DECIMAL(18, 8), SPREAD DOUBLE,
  PUBLISHED_AT TIMESTAMP, QUOTES MAP<STRING, DECIMAL(18, 8)>
) WITH (KAFKA_TOPIC='fx_rates', KEY_FORMAT='JSON', VALUE_FORMAT='JSON', PARTITIONS=1);
"""

_DERIVED = """
CREATE STREAM TRANSACTION_FLATTENED WITH (KAFKA_TOPIC='transactions_flattened', VALUE_FORMAT='JSON') AS
  SELECT TRANSACTION_ID, USER_ID, AMOUNT, CURRENCY, MERCHANT->ID AS MERCHANT_ID, MERCHANT->NAME AS MERCHANT_NAME,
         MERCHANT->CATEGORY AS CATEGORY, MERCHANT->COUNTRY AS COUNTRY, CARD->NETWORK AS CARD_NETWORK,
         ATTRIBUTES['channel'] AS CHANNEL, ARRAY_LENGTH(ITEMS) AS ITEM_COUNT, IS_ONLINE, RISK_SCORE, EVENT_TIME
  FROM TRANSACTION_STREAM EMIT CHANGES;

CREATE TABLE USER_TRANSACTION_SUMMARY WITH (KAFKA_TOPIC='user_transaction_summary', VALUE_FORMAT='JSON') AS
  SELECT USER_ID, COUNT(*) AS TRANSACTION_COUNT, SUM(AMOUNT) AS TOTAL_AMOUNT, MAX(AMOUNT) AS LARGEST_AMOUNT,
         AVG(RISK_SCORE) AS AVERAGE_RISK, COLLECT_SET(CURRENCY) AS CURRENCIES,
         LATEST_BY_OFFSET(EVENT_TIME) AS LAST_TRANSACTION_AT
  FROM TRANSACTION_FLATTENED GROUP BY USER_ID EMIT CHANGES;

CREATE TABLE DAILY_MERCHANT_VOLUME WITH (KAFKA_TOPIC='daily_merchant_volume', VALUE_FORMAT='JSON') AS
  SELECT MERCHANT_ID, COUNT(*) AS TRANSACTION_COUNT, SUM(AMOUNT) AS VOLUME, COUNT_DISTINCT(USER_ID) AS CUSTOMERS
  FROM TRANSACTION_FLATTENED WINDOW TUMBLING (SIZE 1 DAY) GROUP BY MERCHANT_ID EMIT CHANGES;
"""

# Each query gives ROWTIME and the columns by their ksqlDB names; {n} rows spread evenly over {span} milliseconds.
_ROWS = {
    "TRANSACTION_STREAM": """
      SELECT t AS ROWTIME, format('tx-{{:010d}}', i) AS TRANSACTION_ID, 1 + mix(i, 1, {users}) AS USER_ID,
        {{'NETWORK': pick(i, 2, {networks}), 'LAST4': lpad(mix(i, 3, 10000)::VARCHAR, 4, '0'),
          'EXPIRES': DATE '2026-01-31' + mix(i, 4, 1400)::INTEGER}} AS CARD,
        (1 + mix(i, 5, 49900) * mix(i, 6, 40) // 10)::DECIMAL(14, 2) / 100 AS AMOUNT,
        pick(i, 7, {currencies}) AS CURRENCY,
        {{'ID': m::INTEGER, 'NAME': format('Merchant {{:03d}}', m), 'CATEGORY': pick(m, 9, {categories}),
          'COUNTRY': pick(m, 10, {countries}),
          'LOCATION': {{'LAT': 35 + mix(m, 11, 2500000) / 100000.0, 'LON': -10 + mix(m, 12, 4000000) / 100000.0}}
        }} AS MERCHANT,
        list_transform(range(1, 2 + mix(i, 13, 4)), lambda k: {{'SKU': format('sku-{{:05d}}', mix(i + k, 14, 20000)),
          'QUANTITY': (1 + mix(i + k, 15, 3))::INTEGER, 'PRICE': (99 + mix(i + k, 16, 9900))::DECIMAL(12, 2) / 100}}
        ) AS ITEMS,
        MAP {{'channel': pick(i, 17, ['web', 'app', 'terminal', 'phone']), 'campaign': format('c{{}}', mix(i, 18, 40)),
              'note': CASE WHEN mix(i, 19, 50) = 0 THEN 'a "quoted" note, ünïcode\\n' END}} AS ATTRIBUTES,
        unhex(printf('%016x%08x', i * 1099511628211 % 4611686018427387847, mix(i, 20, 2147483647))) AS SIGNATURE,
        mix(i, 17, 4) < 2 AS IS_ONLINE,
        CASE WHEN mix(i, 21, 200) = 0 THEN NULL ELSE mix(i, 22, 1000000) / 1000000.0 END AS RISK_SCORE,
        make_timestamp((t - mix(i, 23, 1500)) * 1000) AS EVENT_TIME,
        DATE '1970-01-01' + (t // 86400000)::INTEGER + 2 AS SETTLEMENT_DATE,
        make_timestamp((t // 1000 + 3600) * 1000000)::TIME AS LOCAL_TIME
      FROM (SELECT i, {start} + 1500 + i * ({span} - 1500) // {n} AS t, 1 + mix(i, 8, {merchants}) AS m FROM range({n}) AS r(i))""",
    "LOGIN_EVENTS": """
      SELECT t AS ROWTIME, 1 + mix(i, 31, {users}) AS USER_ID, md5(i::VARCHAR) AS SESSION_ID,
        mix(i, 32, 20) > 0 AS SUCCESSFUL, (1 + mix(i, 33, 3))::INTEGER AS ATTEMPTS,
        format('10.{{}}.{{}}.{{}}', mix(i, 34, 256), mix(i, 35, 256), mix(i, 36, 256)) AS IP,
        CASE WHEN mix(i, 37, 30) > 0 THEN {{'OS': pick(i, 38, ['android', 'ios', 'windows', 'linux']),
          'MODEL': format('model-{{}}', mix(i, 39, 60)), 'SCREEN': [1080, 1920 + mix(i, 40, 5)::INTEGER * 120]}}
        END AS DEVICE,
        [mix(i, 41, 300)::INTEGER, CASE WHEN mix(i, 42, 9) = 0 THEN NULL ELSE mix(i, 43, 300)::INTEGER END]
          AS LATENCIES_MS,
        MAP {{'clicks': mix(i, 44, 400), 'bytes': mix(i, 45, 2147483647) * 4096}} AS COUNTERS,
        make_timestamp(t * 1000) AS LOGGED_IN_AT
      FROM (SELECT i, {start} + i * {span} // {n} AS t FROM range({n}) AS r(i))""",
    "CARD_AUTHORIZATIONS": """
      SELECT t AS ROWTIME, 9000000000000000 + i AS AUTHORIZATION_ID, format('tx-{{:010d}}', i * 5 // 2) AS TRANSACTION_ID,
        mix(i, 51, 25) > 0 AS APPROVED, CASE WHEN mix(i, 51, 25) > 0 THEN 0 ELSE 51 END AS RESPONSE_CODE,
        (100 + mix(i, 52, 500000))::DECIMAL(14, 2) / 100 AS AMOUNT, t AS AUTHORIZED_AT,
        DATE '2025-01-13' + mix(i, 53, 20)::INTEGER AS EXPIRES_ON,
        TIME '17:00:00' + to_minutes(mix(i, 54, 240)) AS CUTOFF, unhex(md5((i * 3)::VARCHAR)) AS CRYPTOGRAM,
        [mix(i, 55, 1000000) / 1e9, mix(i, 56, 1000000) * 1e3, 'NaN'::DOUBLE][:1 + mix(i, 57, 3)] AS MODEL_SCORES,
        MAP([10::INTEGER, mix(i, 58, 5)::INTEGER + 20], ['amount', 'velocity']) AS REASONS
      FROM (SELECT i, {start} + i * {span} // {n} AS t FROM range({n}) AS r(i))""",
    "MERCHANTS": """
      SELECT {start} + i * 1000 AS ROWTIME, i::INTEGER AS MERCHANT_ID, format('Merchant {{:03d}}', i) AS NAME,
        pick(i, 9, {categories}) AS CATEGORY, pick(i, 10, {countries}) AS COUNTRY,
        1 + mix(i, 61, 400) / 100.0 AS RATING, (mix(i, 62, 90000000) + 1000000)::DECIMAL(16, 2) / 100 AS MONTHLY_LIMIT,
        mix(i, 63, 12) > 0 AS ACTIVE, DATE '2015-01-01' + mix(i, 64, 3600)::INTEGER AS ONBOARDED_ON,
        TIME '06:00:00' + to_minutes(30 * mix(i, 65, 8)) AS OPENS_AT,
        ['cards', pick(i, 66, ['online', 'onsite']), pick(i, 67, ['gold', 'silver'])] AS TAGS
      FROM range(1, {merchants} + 1) AS r(i)""",
    "FX_RATES": """
      SELECT {start} + d * 86400000 + 57600000 AS ROWTIME, DATE '2025-01-06' + d::INTEGER AS RATE_DATE,
        c AS CURRENCY, (80000000 + mix(d * 16 + length(c) + unicode(c), 71, 40000000))::DECIMAL(20, 8) / 100000000
          AS RATE,
        mix(d + unicode(c), 72, 1000) / 1e6 AS SPREAD, make_timestamp(({start} + d * 86400000 + 57600000) * 1000)
          AS PUBLISHED_AT,
        MAP {{'bid': (79900000 + mix(d, 73, 40000000))::DECIMAL(20, 8) / 100000000,
              'ask': (80100000 + mix(d, 73, 40000000))::DECIMAL(20, 8) / 100000000}} AS QUOTES
      FROM range({days}) AS r(d), unnest({currencies}) AS u(c)""",
}
_SHARE = {"TRANSACTION_STREAM": 1.0, "LOGIN_EVENTS": 0.3, "CARD_AUTHORIZATIONS": 0.4}


def load_sample(catalog: Catalog, *, rows: int = 100_000, days: int = 14) -> None:
    """Create and fill the sample's sources.

    Args:
        catalog: An empty one.
        rows: Rows of TRANSACTION_STREAM; the other streams have a fixed share of it.
        days: UTC days from 2025-01-06 on that the rows spread over.
    """
    for macro in (_SCRAMBLE, _MIX, _PICK):
        catalog.database.execute(macro)
    for statement in parse_statements(_DDL):
        if isinstance(statement, Create):
            catalog.create(statement)
            source = catalog.sources[statement.name]
            catalog.append(source, _arrivals(source, rows, days))
    for statement in parse_statements(_DERIVED):
        if isinstance(statement, Create):
            catalog.create(statement)


def _arrivals(source: Source, rows: int, days: int) -> str:
    numbers = {
        "n": max(1, int(rows * _SHARE.get(source.name, 1.0))),
        "users": max(10, rows // 20),
        "merchants": MERCHANTS,
        "days": days,
        "start": FIRST_DAY_MS,
        "span": days * DAY_MS,
    }
    made = _ROWS[source.name].format(**numbers, **_TEXT)
    tombstone = "FALSE AS __TOMBSTONE, " if source.kind == "TABLE" else ""
    columns = ", ".join(f"{quoted(item.name)} AS {quoted(item.stored_as)}" for item in source.columns)
    return f"SELECT ROWTIME, NULL::INTEGER AS ROWPARTITION, {tombstone}{columns} FROM ({made})"
