SELECT published AS ROWTIME, first_day() + d::INTEGER AS RATE_DATE, c AS CURRENCY,
  (mid / 100000000)::DECIMAL(18, 8) AS RATE, mix(d + unicode(c), 72, 1000) / 1e6 AS SPREAD,
  at_ms(published) AS PUBLISHED_AT,
  MAP {'bid': ((mid - 100000) / 100000000)::DECIMAL(18, 8), 'ask': ((mid + 100000) / 100000000)::DECIMAL(18, 8)}
    AS QUOTES
FROM (
  SELECT d, c, getvariable('first_ms') + d * 86400000 + 57600000 AS published,
    (80000000 + mix(d * 64 + list_position(currencies(), c), 71, 40000000))::DECIMAL(20, 8) AS mid
  FROM range((getvariable('to_ms') - getvariable('first_ms')) // 86400000 + 1) AS r(d), unnest(currencies()) AS u(c)
  WHERE published >= getvariable('from_ms') AND published < getvariable('to_ms')
)
-- Day by day where they arrive so; the sample of always has them currency by currency.
ORDER BY CASE WHEN getvariable('late') = 1 THEN d END, list_position(currencies(), c), d
