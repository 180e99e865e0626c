"""Talking to ksqlDB: requests out, rows and facts back; nothing else in ksql-lake speaks HTTP."""
