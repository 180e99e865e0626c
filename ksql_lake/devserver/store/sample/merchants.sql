SELECT getvariable('first_ms') + i * 1000 AS ROWTIME, i::INTEGER AS MERCHANT_ID,
  format('Merchant {:03d}', i) AS NAME, pick(i, 9, categories()) AS CATEGORY, pick(i, 10, countries()) AS COUNTRY,
  1 + mix(i, 61, 400) / 100.0 AS RATING, cents(mix(i, 62, 90000000) + 1000000) AS MONTHLY_LIMIT,
  mix(i, 63, 12) > 0 AS ACTIVE, DATE '2015-01-01' + mix(i, 64, 3600)::INTEGER AS ONBOARDED_ON,
  TIME '06:00:00' + to_minutes(30 * mix(i, 65, 8)) AS OPENS_AT,
  ['cards', pick(i, 66, ['online', 'onsite']), pick(i, 67, ['gold', 'silver'])] AS TAGS
FROM range(1, getvariable('merchants') + 1) AS r(i) WHERE getvariable('from_ms') = getvariable('first_ms')
