SELECT t AS ROWTIME, 9000000000000000 + i AS AUTHORIZATION_ID, format('tx-{:010d}', i * 5 // 2) AS TRANSACTION_ID,
  mix(i, 51, 25) > 0 AS APPROVED, CASE WHEN mix(i, 51, 25) > 0 THEN 0 ELSE 51 END AS RESPONSE_CODE,
  cents(100 + mix(i, 52, 500000)) AS AMOUNT, t AS AUTHORIZED_AT,
  first_day() + 7 + mix(i, 53, 20)::INTEGER AS EXPIRES_ON,
  TIME '17:00:00' + to_minutes(mix(i, 54, 240)) AS CUTOFF, unhex(md5((i * 3)::VARCHAR)) AS CRYPTOGRAM,
  [mix(i, 55, 1000000) / 1e9, mix(i, 56, 1000000) * 1e3, 'NaN'::DOUBLE][:1 + mix(i, 57, 3)] AS MODEL_SCORES,
  MAP([10::INTEGER, mix(i, 58, 5)::INTEGER + 20], ['amount', 'velocity']) AS REASONS,
  [{'NAME': 'requested', 'AT': at_ms(t - 40), 'CLOCK': at_ms(t - 40)::TIME, 'PROOF': NULL},
   {'NAME': 'answered', 'AT': at_ms(t), 'CLOCK': at_ms(t)::TIME, 'PROOF': encode(i::VARCHAR)}] AS STEPS
FROM events(greatest(1, getvariable('rows') * 4 // 10))
