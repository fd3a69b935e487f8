"""Brings the database to what the app wants, and ends."""

import os

import psycopg2

with psycopg2.connect(os.environ["DATABASE_URL"]) as connection, connection.cursor() as cursor:
    cursor.execute("CREATE TABLE IF NOT EXISTS notes (id serial PRIMARY KEY, text text)")
    cursor.execute("CREATE TABLE IF NOT EXISTS migrations (at timestamptz DEFAULT now())")
    cursor.execute("INSERT INTO migrations DEFAULT VALUES")
print("migrated")
