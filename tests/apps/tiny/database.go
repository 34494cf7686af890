package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// databaseURL is DATABASE_URL where it is set. Otherwise it is empty, which pgx reads as: PGHOST, PGPORT, PGDATABASE,
// PGUSER and PGPASSWORD, the variables that a Secret's host, port, dbname, user and password are mapped to.
func databaseURL() string { return os.Getenv("DATABASE_URL") }

// querier is what a connection, a pool and a transaction have in common here.
type querier interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// schemaVersion answers 0 for a database that no migration has touched.
func schemaVersion(ctx context.Context, db querier) (int, error) {
	var version int
	err := db.QueryRow(ctx, `SELECT version FROM schema_version`).Scan(&version)
	var failure *pgconn.PgError
	if errors.As(err, &failure) && failure.Code == "42P01" { // undefined_table
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("cannot read the schema version: %w", err)
	}
	return version, nil
}
