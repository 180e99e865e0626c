-- What the sample's rows are made with; no clock, no random generator, so every start makes the same rows.
-- A well mixed number below n for row i; `salt` makes columns independent of each other. Squaring modulo a prime
-- breaks up the straight lines that multiplication alone would draw.
CREATE OR REPLACE MACRO scramble(x) AS x * x % 2147483647 * 16807 % 2147483647;
CREATE OR REPLACE MACRO mix(i, salt, n) AS scramble((i * 48271 + salt * 7919777) % 2147483647) % n;
CREATE OR REPLACE MACRO pick(i, salt, options) AS options[1 + mix(i, salt, len(options))];
CREATE OR REPLACE MACRO cents(x) AS x::DECIMAL(16, 2) / 100;
CREATE OR REPLACE MACRO at_ms(t) AS make_timestamp(t * 1000);

CREATE OR REPLACE MACRO currencies() AS ['EUR', 'USD', 'GBP', 'CHF', 'PLN', 'SEK'];
CREATE OR REPLACE MACRO categories() AS
  ['grocery', 'travel', 'fuel', 'restaurant', 'electronics', 'pharmacy', 'books', 'café'];
CREATE OR REPLACE MACRO countries() AS ['DE', 'FR', 'GB', 'CH', 'PL', 'SE', 'US', 'NL'];
CREATE OR REPLACE MACRO networks() AS ['visa', 'mastercard', 'amex', 'girocard'];

CREATE OR REPLACE MACRO first_day() AS DATE '1970-01-01' + (getvariable('first_ms') // 86400000)::INTEGER;
CREATE OR REPLACE MACRO delay(i) AS
  CASE WHEN getvariable('late') = 1 AND mix(i, 91, 40) = 0 THEN mix(i, 92, 72000) * 1000 ELSE 0 END;

-- n events spread evenly over the sample's days, and as many in all days after them: number and time of those that
-- arrive from `from_ms` to before `to_ms`. A late one carries an earlier time than that at which it arrives.
CREATE OR REPLACE MACRO events(n) AS TABLE
  SELECT i, greatest(arrived - delay(i), getvariable('first_ms')) AS t
  FROM (SELECT i, getvariable('first_ms') + i * getvariable('span_ms') // n AS arrived FROM numbers)
  WHERE arrived >= getvariable('from_ms') AND arrived < getvariable('to_ms');
