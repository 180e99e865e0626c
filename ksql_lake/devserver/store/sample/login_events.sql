SELECT t AS ROWTIME, 1 + mix(i, 31, getvariable('users')) AS USER_ID, md5(i::VARCHAR) AS SESSION_ID,
  mix(i, 32, 20) > 0 AS SUCCESSFUL, (1 + mix(i, 33, 3))::INTEGER AS ATTEMPTS,
  format('10.{}.{}.{}', mix(i, 34, 256), mix(i, 35, 256), mix(i, 36, 256)) AS IP,
  CASE WHEN mix(i, 37, 30) > 0 THEN
    {'OS': pick(i, 38, ['android', 'ios', 'windows', 'linux']), 'MODEL': format('model-{}', mix(i, 39, 60)),
     'SCREEN': [1080, 1920 + mix(i, 40, 5)::INTEGER * 120],
     'SETTINGS': MAP {'dark': mix(i, 46, 2) = 0, 'beta': mix(i, 47, 20) = 0}} END AS DEVICE,
  [mix(i, 41, 300)::INTEGER, CASE WHEN mix(i, 42, 9) > 0 THEN mix(i, 43, 300)::INTEGER END] AS LATENCIES_MS,
  MAP {'clicks': mix(i, 44, 400), 'bytes': mix(i, 45, 2147483647) * 4096} AS COUNTERS,
  at_ms(t) AS LOGGED_IN_AT
FROM events(greatest(1, getvariable('rows') * 3 // 10))
