-- What the sample's rows are made with; no clock, no random generator, so every start gives the same rows.
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

-- n events spread evenly over the sample's days: their number and their time.
CREATE OR REPLACE MACRO events(n) AS TABLE
  SELECT i, getvariable('first_ms') + i * getvariable('span_ms') // n AS t FROM numbers WHERE i < n;
