SELECT t AS ROWTIME, format('tx-{:010d}', i) AS TRANSACTION_ID, 1 + mix(i, 1, getvariable('users')) AS USER_ID,
  {'NETWORK': pick(i, 2, networks()), 'LAST4': lpad(mix(i, 3, 10000)::VARCHAR, 4, '0'),
   'EXPIRES': first_day() + 390 + mix(i, 4, 1400)::INTEGER} AS CARD,
  cents(100 + mix(i, 5, 49900) * mix(i, 6, 40) // 10) AS AMOUNT,
  pick(i, 7, currencies()) AS CURRENCY,
  {'ID': m::INTEGER, 'NAME': format('Merchant {:03d}', m), 'CATEGORY': pick(m, 9, categories()),
   'COUNTRY': pick(m, 10, countries()),
   'LOCATION': {'LAT': 35 + mix(m, 11, 2500000) / 100000.0, 'LON': -10 + mix(m, 12, 4000000) / 100000.0}
  } AS MERCHANT,
  list_transform(range(1, 2 + mix(i, 13, 4)), lambda k: {
    'SKU': format('sku-{:05d}', mix(i + k, 14, 20000)),
    'QUANTITY': (1 + mix(i + k, 15, 3))::INTEGER,
    'PRICE': cents(99 + mix(i + k, 16, 9900))}) AS ITEMS,
  MAP {'channel': pick(i, 17, ['web', 'app', 'terminal', 'phone']), 'campaign': format('c{}', mix(i, 18, 40)),
       'note': CASE WHEN mix(i, 19, 50) = 0 THEN 'a "quoted" note, ünïcode' || chr(10) END} AS ATTRIBUTES,
  unhex(printf('%016x%08x', i * 1099511628211 % 4611686018427387847, mix(i, 20, 2147483647))) AS SIGNATURE,
  mix(i, 17, 4) < 2 AS IS_ONLINE,
  CASE WHEN mix(i, 21, 200) > 0 THEN mix(i, 22, 1000000) / 1000000.0 END AS RISK_SCORE,
  at_ms(greatest(t - mix(i, 23, 1500), getvariable('first_ms'))) AS EVENT_TIME,
  DATE '1970-01-01' + (t // 86400000)::INTEGER + 2 AS SETTLEMENT_DATE,
  at_ms((t // 1000 + 3600) * 1000)::TIME AS LOCAL_TIME
FROM (SELECT i, t, 1 + mix(i, 8, getvariable('merchants')) AS m FROM events(getvariable('rows')))
